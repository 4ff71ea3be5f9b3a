// A message that is delivered only if the local transaction commits, such as the insert of the order into a database. A producer that
// crashed before it said how its transaction ended is asked by the broker.
//
// Prints:
//
//	delivered order 1, paid
//	delivered order 3, crash after payment
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// database stands for the one of the application.
type database struct{}

// ExecuteLocalTransaction runs after the message is stored, and before anybody can consume it.
func (database) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	switch {
	case strings.HasSuffix(string(message.Body), "refused"):
		return primitive.RollbackMessageState
	case strings.Contains(string(message.Body), "crash"):
		return primitive.UnknowState
	}
	return primitive.CommitMessageState
}

// CheckLocalTransaction looks up how the transaction of an unknown outcome ended.
func (database) CheckLocalTransaction(*primitive.MessageExt) primitive.LocalTransactionState {
	return primitive.CommitMessageState
}

func main() {
	rlog.SetLogLevel("error")
	servers := primitive.NewPassthroughResolver([]string{os.Getenv("NAMESRV_ADDR")})

	p, err := rocketmq.NewTransactionProducer(database{}, producer.WithNsResolver(servers), producer.WithGroupName("shop-with-database-go"))
	check(err)
	check(p.Start())
	for _, text := range []string{"order 1, paid", "order 2, card refused", "order 3, crash after payment"} {
		_, err := p.SendMessageInTransaction(context.Background(), primitive.NewMessage("GoPayments", []byte(text)))
		check(err)
	}

	c, err := rocketmq.NewPushConsumer(consumer.WithNsResolver(servers), consumer.WithGroupName("logistics"),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	check(err)
	delivered := make(chan string)
	check(c.Subscribe("GoPayments", consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			delivered <- string(message.Body)
		}
		return consumer.ConsumeSuccess, nil
	}))
	check(c.Start())
	texts := []string{<-delivered, <-delivered}
	sort.Strings(texts)
	for _, text := range texts {
		fmt.Println("delivered", text)
	}

	check(c.Shutdown())
	check(p.Shutdown())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
