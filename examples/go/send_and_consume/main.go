// Sends messages and consumes them.
//
// Prints:
//
//	sent 3 orders
//	consumed order 1, order 2, order 3
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

func main() {
	rlog.SetLogLevel("error")
	servers := primitive.NewPassthroughResolver([]string{os.Getenv("NAMESRV_ADDR")})

	p, err := rocketmq.NewProducer(producer.WithNsResolver(servers), producer.WithGroupName("shop"))
	check(err)
	check(p.Start())
	for i := 1; i <= 3; i++ {
		message := primitive.NewMessage("GoOrders", []byte(fmt.Sprintf("order %d", i))).WithTag("new").WithKeys([]string{fmt.Sprint(i)})
		_, err := p.SendSync(context.Background(), message)
		check(err)
	}
	fmt.Println("sent 3 orders")

	c, err := rocketmq.NewPushConsumer(consumer.WithNsResolver(servers), consumer.WithGroupName("warehouse"),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	check(err)
	consumed := make(chan string)
	check(c.Subscribe("GoOrders", consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			consumed <- string(message.Body)
		}
		return consumer.ConsumeSuccess, nil // ConsumeRetryLater: the messages come again
	}))
	check(c.Start())
	orders := []string{<-consumed, <-consumed, <-consumed}
	sort.Strings(orders)
	fmt.Println("consumed", strings.Join(orders, ", "))

	check(c.Shutdown())
	check(p.Shutdown())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
