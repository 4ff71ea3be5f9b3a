// A consumer that gets a part of a topic's messages: the broker evaluates an SQL expression over their properties.
//
// Prints:
//
//	consumed 1500 EUR from FR
package main

import (
	"context"
	"fmt"
	"log"
	"os"

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
	for _, payment := range [][2]string{{"DE", "2000"}, {"FR", "15"}, {"FR", "1500"}} {
		message := primitive.NewMessage("GoAmounts", []byte(payment[1]+" EUR from "+payment[0])).WithTag(payment[0])
		message.WithProperty("amount", payment[1])
		_, err := p.SendSync(context.Background(), message)
		check(err)
	}

	c, err := rocketmq.NewPushConsumer(consumer.WithNsResolver(servers), consumer.WithGroupName("fraud"),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	check(err)
	consumed := make(chan string)
	selector := consumer.MessageSelector{Type: consumer.SQL92, Expression: "TAGS = 'FR' AND amount BETWEEN 1000 AND 9999"}
	check(c.Subscribe("GoAmounts", selector, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			consumed <- string(message.Body)
		}
		return consumer.ConsumeSuccess, nil
	}))
	check(c.Start())
	fmt.Println("consumed", <-consumed)

	check(c.Shutdown())
	check(p.Shutdown())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
