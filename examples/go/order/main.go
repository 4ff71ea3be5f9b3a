// The steps of one order are consumed in the order in which they were sent: all of them are sent to one queue, which the order's number
// selects, and an orderly consumer takes the messages of a queue one after the other.
//
// Prints:
//
//	order 1: created, paid, shipped
//	order 2: created, paid, shipped
package main

import (
	"context"
	"fmt"
	"log"
	"os"
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

	// The sharding key chooses the queue.
	p, err := rocketmq.NewProducer(producer.WithNsResolver(servers), producer.WithGroupName("shop"),
		producer.WithQueueSelector(producer.NewHashQueueSelector()))
	check(err)
	check(p.Start())
	for _, step := range []string{"created", "paid", "shipped"} {
		for _, order := range []string{"order 1", "order 2"} {
			message := primitive.NewMessage("GoSteps", []byte(step)).WithKeys([]string{order}).WithShardingKey(order)
			_, err := p.SendSync(context.Background(), message)
			check(err)
		}
	}

	c, err := rocketmq.NewPushConsumer(consumer.WithNsResolver(servers), consumer.WithGroupName("history"),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset), consumer.WithConsumerOrder(true))
	check(err)
	consumed := make(chan [2]string)
	check(c.Subscribe("GoSteps", consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			consumed <- [2]string{strings.TrimSpace(message.GetKeys()), string(message.Body)}
		}
		return consumer.ConsumeSuccess, nil
	}))
	check(c.Start())
	steps := map[string][]string{}
	for i := 0; i < 6; i++ {
		one := <-consumed
		steps[one[0]] = append(steps[one[0]], one[1])
	}
	for _, order := range []string{"order 1", "order 2"} {
		fmt.Printf("%s: %s\n", order, strings.Join(steps[order], ", "))
	}

	check(c.Shutdown())
	check(p.Shutdown())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
