// Scenarios with the published Go SDK of the gRPC protocol, which always speaks TLS and checks no certificate: NAME ENDPOINT SECURITY SUFFIX [SCENARIO...], see `run`.
// One line per scenario.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

const soon = 120 * time.Second

var (
	label, endpoint, suffix string
	background              = context.Background()
)

func name(base string) string { return base + suffix }

func check(holds bool, what string) {
	if !holds {
		panic(errors.New(what))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func config(group string) *mq.Config {
	return &mq.Config{Endpoint: endpoint, ConsumerGroup: group, Credentials: &credentials.SessionCredentials{}}
}

func producer(topic string, checker *mq.TransactionChecker) mq.Producer {
	options := []mq.ProducerOption{mq.WithTopics(topic)}
	if checker != nil {
		options = append(options, mq.WithTransactionChecker(checker))
	}
	made, err := mq.NewProducer(config(""), options...)
	must(err)
	must(made.Start())
	return made
}

func push(topic, group string, consume func(*mq.MessageView) mq.ConsumerResult) mq.PushConsumer {
	made, err := mq.NewPushConsumer(config(group), mq.WithPushAwaitDuration(5*time.Second),
		mq.WithPushSubscriptionExpressions(map[string]*mq.FilterExpression{topic: mq.SUB_ALL}),
		mq.WithPushMessageListener(&mq.FuncMessageListener{Consume: consume}),
		mq.WithPushConsumptionThreadCount(20), mq.WithPushMaxCacheMessageCount(1024))
	must(err)
	must(made.Start())
	return made
}

func some(consumer mq.SimpleConsumer, count int32, invisible time.Duration) []*mq.MessageView {
	got, err := consumer.Receive(background, count, invisible)
	if err != nil && strings.Contains(err.Error(), "MESSAGE_NOT_FOUND") {
		return nil
	}
	must(err)
	return got
}

func begun(topic, group string, filter *mq.FilterExpression) mq.SimpleConsumer {
	made, err := mq.NewSimpleConsumer(config(group), mq.WithSimpleAwaitDuration(5*time.Second),
		mq.WithSimpleSubscriptionExpressions(map[string]*mq.FilterExpression{topic: filter}))
	must(err)
	must(made.Start())
	for {
		old := some(made, 16, 30*time.Second)
		if len(old) == 0 {
			return made
		}
		for _, view := range old {
			must(made.Ack(background, view))
		}
	}
}

func message(topic, body string) *mq.Message { return &mq.Message{Topic: topic, Body: []byte(body)} }

func send(p mq.Producer, m *mq.Message) *mq.SendReceipt {
	receipts, err := p.Send(background, m)
	must(err)
	return receipts[0]
}

func body(view *mq.MessageView) string { return string(view.GetBody()) }

func receive(consumer mq.SimpleConsumer, count int) (got []*mq.MessageView) {
	end := time.Now().Add(soon)
	for len(got) < count {
		check(time.Now().Before(end), fmt.Sprintf("received %d of %d", len(got), count))
		for _, view := range some(consumer, 16, 30*time.Second) {
			got = append(got, view)
			must(consumer.Ack(background, view))
		}
	}
	return got
}

func find(consumer mq.SimpleConsumer, text string) *mq.MessageView {
	end := time.Now().Add(soon)
	for {
		check(time.Now().Before(end), "not received: "+text)
		for _, view := range some(consumer, 1, time.Minute) {
			if body(view) == text {
				return view
			}
			must(consumer.Ack(background, view))
		}
	}
}

func bodies(views []*mq.MessageView) []string {
	var got []string
	for _, view := range views {
		got = append(got, body(view))
	}
	slices.Sort(got)
	return got
}

func wait(what string, holds func() bool) {
	end := time.Now().Add(soon)
	for !holds() {
		check(time.Now().Before(end), "not in time: "+what)
		time.Sleep(20 * time.Millisecond)
	}
}

type seen struct {
	sync.Mutex
	all []string
}

func (s *seen) add(text string) {
	s.Lock()
	defer s.Unlock()
	s.all = append(s.all, text)
}

func (s *seen) unique() []string {
	s.Lock()
	defer s.Unlock()
	sorted := slices.Clone(s.all)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

func (s *seen) has(text string) bool { return slices.Contains(s.unique(), text) }

func warm(p mq.Producer, make func() []*mq.Message, arrived func() bool) {
	wait("the consumer begins", func() bool {
		for _, one := range make() {
			send(p, one)
		}
		time.Sleep(300 * time.Millisecond)
		return arrived()
	})
}

func normal() {
	topic := name("normal")
	consumer := begun(topic, name("g-normal"), mq.SUB_ALL)
	defer consumer.GracefulStop()
	p := producer(topic, nil)
	defer p.GracefulStop()
	hello := message(topic, "hello")
	hello.SetTag("a")
	hello.SetKeys("k1", "k2")
	hello.AddProperty("own", "v")
	receipt := send(p, hello)
	view := receive(consumer, 1)[0]
	check(view.GetMessageId() == receipt.MessageID, "message id")
	check(body(view) == "hello" && *view.GetTag() == "a" && view.GetProperties()["own"] == "v", "content")
	check(reflect.DeepEqual(view.GetKeys(), []string{"k1", "k2"}) && view.GetDeliveryAttempt() == 1, "keys")
	var sent sync.WaitGroup
	var failed error
	for n := range 100 {
		sent.Add(1)
		p.SendAsync(background, message(topic, fmt.Sprint("n", n)), func(_ context.Context, _ []*mq.SendReceipt, err error) {
			if err != nil {
				failed = err
			}
			sent.Done()
		})
	}
	sent.Wait()
	must(failed)
	check(len(slices.Compact(bodies(receive(consumer, 100)))) == 100, "100 different messages")
	large := strings.Repeat("x", 1<<20)
	send(p, message(topic, large))
	check(body(receive(consumer, 1)[0]) == large, "a large message")
}

func changeInvisible() {
	topic := name("change")
	consumer := begun(topic, name("g-change"), mq.SUB_ALL)
	defer consumer.GracefulStop()
	p := producer(topic, nil)
	defer p.GracefulStop()
	send(p, message(topic, "later"))
	first := find(consumer, "later")
	must(consumer.ChangeInvisibleDuration(first, time.Second))
	again := find(consumer, "later")
	must(consumer.Ack(background, again))
	check(again.GetMessageId() == first.GetMessageId() && again.GetDeliveryAttempt() == 2, fmt.Sprint("delivered again, attempt ", again.GetDeliveryAttempt()))
}

func filters() {
	topic := name("filter")
	tags := begun(topic, name("g-tags"), mq.NewFilterExpression("a || b"))
	defer tags.GracefulStop()
	sql := begun(topic, name("g-sql"), mq.NewFilterExpressionWithType("n > 1", mq.SQL92))
	defer sql.GracefulStop()
	p := producer(topic, nil)
	defer p.GracefulStop()
	for n, tag := range []string{"a", "b", "c"} {
		one := message(topic, tag)
		one.SetTag(tag)
		one.AddProperty("n", strconv.Itoa(n))
		send(p, one)
	}
	got := bodies(receive(tags, 2))
	check(reflect.DeepEqual(got, []string{"a", "b"}), fmt.Sprint("by tags ", got))
	check(body(receive(sql, 1)[0]) == "c", "by SQL")
}

// The SDK has no recall.
func delayAndRecall() {
	topic := name("delay")
	consumer := begun(topic, name("g-delay"), mq.SUB_ALL)
	defer consumer.GracefulStop()
	p := producer(topic, nil)
	defer p.GracefulStop()
	due := time.Now().Add(4 * time.Second)
	one := message(topic, "kept")
	one.SetDelayTimestamp(due)
	send(p, one)
	text := body(receive(consumer, 1)[0])
	check(text == "kept", "another one: "+text)
	check(time.Now().UnixMilli() >= due.UnixMilli()-1, "not early")
}

func transactions() {
	topic := name("transaction")
	var asked seen
	checker := &mq.TransactionChecker{Check: func(view *mq.MessageView) mq.TransactionResolution {
		asked.add(body(view))
		if body(view) == "orphan-commit" {
			return mq.COMMIT
		}
		return mq.ROLLBACK
	}}
	consumer := begun(topic, name("g-transaction"), mq.SUB_ALL)
	defer consumer.GracefulStop()
	p := producer(topic, checker)
	defer p.GracefulStop()
	for _, text := range []string{"commit", "rollback", "orphan-commit", "orphan-rollback"} {
		transaction := p.BeginTransaction()
		_, err := p.SendWithTransaction(background, message(topic, text), transaction)
		must(err)
		switch text {
		case "commit":
			must(transaction.Commit())
		case "rollback":
			must(transaction.RollBack())
		}
	}
	got := bodies(receive(consumer, 2))
	check(reflect.DeepEqual(got, []string{"commit", "orphan-commit"}), fmt.Sprint("committed ", got))
	wait("both orphans are asked for", func() bool { return reflect.DeepEqual(asked.unique(), []string{"orphan-commit", "orphan-rollback"}) })
}

func pushConsumer() {
	topic := name("push")
	var got, attempts seen
	p := producer(topic, nil)
	defer p.GracefulStop()
	consumer := push(topic, name("g-push"), func(view *mq.MessageView) mq.ConsumerResult {
		if body(view) == "failing" && view.GetDeliveryAttempt() < 3 {
			attempts.add(fmt.Sprint(view.GetDeliveryAttempt()))
			return mq.FAILURE
		}
		got.add(body(view))
		return mq.SUCCESS
	})
	defer consumer.GracefulStop()
	warm(p, func() []*mq.Message { return []*mq.Message{message(topic, "warm")} }, func() bool { return got.has("warm") })
	for n := range 50 {
		send(p, message(topic, fmt.Sprint("n", n)))
	}
	send(p, message(topic, "failing"))
	wait("all are consumed", func() bool { return len(got.unique()) == 52 })
	check(reflect.DeepEqual(attempts.all, []string{"1", "2"}), fmt.Sprint("failed twice: ", attempts.all))
}

// Without a failure: the SDK would go on with the next message while the failed one waits.
func fifo() {
	topic := name("fifo")
	var got seen
	p := producer(topic, nil)
	defer p.GracefulStop()
	grouped := func(group, text string) *mq.Message {
		one := message(topic, text)
		one.SetMessageGroup(group)
		return one
	}
	consumer := push(topic, name("g-fifo"), func(view *mq.MessageView) mq.ConsumerResult {
		text := body(view)
		got.add(text)
		return mq.SUCCESS
	})
	defer consumer.GracefulStop()
	warm(p, func() (all []*mq.Message) {
		for n := range 8 {
			all = append(all, grouped(fmt.Sprint("w", n), "warm-0"))
		}
		return all
	}, func() bool { return got.has("warm-0") })
	for n := range 10 {
		for _, group := range []string{"a", "b", "c"} {
			send(p, grouped(group, fmt.Sprintf("%s-%d", group, n)))
		}
	}
	for _, group := range []string{"a", "b", "c"} {
		of := func() (all []string) {
			got.Lock()
			defer got.Unlock()
			for _, text := range got.all {
				if strings.HasPrefix(text, group+"-") {
					all = append(all, text)
				}
			}
			return all
		}
		wait("all of group "+group, func() bool { return len(of()) >= 10 })
		var expected []string
		for n := range 10 {
			expected = append(expected, fmt.Sprintf("%s-%d", group, n))
		}
		check(reflect.DeepEqual(of(), expected), fmt.Sprint("in order ", of()))
	}
}

func deadLetters() {
	topic := name("dead")
	var attempts, arrived seen
	p := producer(topic, nil)
	defer p.GracefulStop()
	consumer := push(topic, name("g-dead"), func(view *mq.MessageView) mq.ConsumerResult {
		if body(view) == "warm" {
			arrived.add("warm")
			return mq.SUCCESS
		}
		attempts.add(fmt.Sprint(view.GetDeliveryAttempt()))
		return mq.FAILURE
	})
	defer consumer.GracefulStop()
	warm(p, func() []*mq.Message { return []*mq.Message{message(topic, "warm")} }, func() bool { return arrived.has("warm") })
	send(p, message(topic, "failing"))
	wait("it failed twice", func() bool { return len(attempts.unique()) >= 2 })
	time.Sleep(5 * time.Second)
	check(len(attempts.all) == 2, fmt.Sprint("no third attempt: ", attempts.all))
}

func wrongUse() {
	topic := name("wrong")
	consumer := begun(topic, name("g-wrong"), mq.SUB_ALL)
	defer consumer.GracefulStop()
	p := producer(topic, nil)
	defer p.GracefulStop()
	other := message(topic, "x")
	other.SetMessageGroup("g")
	_, err := p.Send(background, other)
	check(err != nil, "a message of another type was stored")
	send(p, message(topic, "wrong"))
	var got []*mq.MessageView
	for end := time.Now().Add(soon); len(got) == 0; got = some(consumer, 1, 10*time.Second) {
		check(time.Now().Before(end), "not received: wrong")
	}
	time.Sleep(12 * time.Second)
	// The SDK does not look at the code of the answer: that the message comes again shows that the handle had expired.
	must(consumer.Ack(background, got[0]))
	receive(consumer, 1)
}

func passes(scenario string, run func()) (passed bool) {
	start := time.Now()
	passed = true
	why := ""
	func() {
		defer func() {
			if problem := recover(); problem != nil {
				passed, why = false, fmt.Sprintf("\n       %v", problem)
			}
		}()
		run()
	}()
	word := "ok  "
	if !passed {
		word = "FAIL"
	}
	fmt.Printf("%s %s [%s] (%.1f s)%s\n", word, scenario, label, time.Since(start).Seconds(), why)
	return passed
}

func main() {
	label, endpoint, suffix = os.Args[1], os.Args[2], os.Args[4]
	wanted := os.Args[5:]
	all := map[string]func(){"normal": normal, "changeInvisible": changeInvisible, "filters": filters, "delayAndRecall": delayAndRecall,
		"transactions": transactions, "pushConsumer": pushConsumer, "fifo": fifo, "deadLetters": deadLetters, "wrongUse": wrongUse}
	if asked(wanted) {
		all[lostMasters] = losesMasters
	}
	var running sync.WaitGroup
	var lock sync.Mutex
	passed := true
	for scenario, run := range all {
		if len(wanted) > 0 && !slices.Contains(wanted, scenario) {
			continue
		}
		running.Add(1)
		go func() {
			one := passes(scenario, run)
			lock.Lock()
			passed = passed && one
			lock.Unlock()
			running.Done()
		}()
	}
	running.Wait()
	if !passed {
		os.Exit(1)
	}
}
