// The Go client behind one line of JSON per request; see ../java/src/Driver.java for the requests. Nothing is asserted here.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

type part struct {
	Text  string            `json:"text"`
	B64   string            `json:"b64"`
	Tags  string            `json:"tags"`
	Keys  string            `json:"keys"`
	Props map[string]string `json:"props"`
	Flag  int32             `json:"flag"`
	Delay int               `json:"delay"`
}

type request struct {
	part
	ID           int64             `json:"id"`
	Op           string            `json:"op"`
	H            string            `json:"h"`
	Namesrv      string            `json:"namesrv"`
	Group        string            `json:"group"`
	Instance     string            `json:"instance"`
	Retries      *int              `json:"retries"`
	TimeoutMs    int               `json:"timeout_ms"`
	CompressOver int               `json:"compress_over"`
	QueueNums    int               `json:"queue_nums"`
	Topic        string            `json:"topic"`
	Queue        *int              `json:"queue"`
	Mode         string            `json:"mode"`
	Messages     []part            `json:"messages"`
	Count        int               `json:"count"`
	Prefix       string            `json:"prefix"`
	Subs         map[string]string `json:"subs"`
	Model        string            `json:"model"`
	Start        string            `json:"start"`
	Orderly      bool              `json:"orderly"`
	Threads      int               `json:"threads"`
	DelayMs      int               `json:"delay_ms"`
	FailFirst    int32             `json:"fail_first"`
	MaxReconsume *int32            `json:"max_reconsume"`
	SuspendMs    int               `json:"suspend_ms"`
	RetryLevel   int               `json:"retry_level"`
	From         int               `json:"from"`
	Min          int               `json:"min"`
	Trace        *string           `json:"trace"`
}

type object = map[string]any

var (
	mutex     sync.Mutex
	producers = map[string]rocketmq.Producer{}
	consumers = map[string]rocketmq.PushConsumer{}
	decided   = map[string]transactional{}
	inboxes   = map[string]*inbox{}
	out       *bufio.Writer
	outMutex  sync.Mutex
)

func main() {
	out = bufio.NewWriter(os.Stdout)
	os.Stdout = os.Stderr
	rlog.SetLogLevel("error")
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			panic(err)
		}
		go answer(&r)
	}
	os.Exit(0)
}

func answer(r *request) {
	reply := object{"id": r.ID}
	result, err := safely(r)
	if err != nil {
		reply["error"] = err.Error()
	} else if result == nil {
		reply["ok"] = object{}
	} else {
		reply["ok"] = result
	}
	line, _ := json.Marshal(reply)
	outMutex.Lock()
	defer outMutex.Unlock()
	_, _ = out.Write(append(line, '\n'))
	_ = out.Flush()
}

func safely(r *request) (result object, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("panic: %v", problem)
		}
	}()
	return perform(r)
}

func perform(r *request) (object, error) {
	switch r.Op {
	case "producer":
		return startProducer(r)
	case "send":
		return send(r)
	case "send_batch":
		return sendBatch(r)
	case "send_many":
		return sendMany(r)
	case "transaction_producer":
		return startTransactionProducer(r)
	case "send_in_transaction":
		return sendInTransaction(r)
	case "checked":
		return object{"texts": transactionalOf(r.H).outcomes.seen()}, nil
	case "push":
		return startConsumer(r)
	case "received":
		return inboxOf(r.H).wait(r.From, r.Min, r.TimeoutMs), nil
	case "stop":
		return stop(r)
	}
	return nil, fmt.Errorf("unsupported: %s", r.Op)
}

// byQueue sends to the message's own queue if it names one, else in turn.
type byQueue struct{ next atomic.Int64 }

func (s *byQueue) Select(message *primitive.Message, queues []*primitive.MessageQueue, _ string) *primitive.MessageQueue {
	if message.Queue != nil {
		for _, queue := range queues {
			if queue.QueueId == message.Queue.QueueId {
				return queue
			}
		}
	}
	return queues[int(s.next.Add(1))%len(queues)]
}

func startProducer(r *request) (object, error) {
	retries, timeout, queues, over := 2, 10*time.Second, 4, 1<<30
	if r.Retries != nil {
		retries = *r.Retries
	}
	if r.TimeoutMs > 0 {
		timeout = time.Duration(r.TimeoutMs) * time.Millisecond
	}
	if r.QueueNums > 0 {
		queues = r.QueueNums
	}
	if r.CompressOver > 0 {
		over = r.CompressOver
	}
	options := []producer.Option{
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.Namesrv})),
		producer.WithGroupName(r.Group), producer.WithInstanceName(instance(r)), producer.WithRetry(retries),
		producer.WithSendMsgTimeout(timeout), producer.WithDefaultTopicQueueNums(queues), producer.WithQueueSelector(&byQueue{}),
		producer.WithCompressMsgBodyOverHowmuch(over), producer.WithCreateTopicKey("TBW102"), producer.WithVIPChannel(false),
	}
	if r.Trace != nil {
		options = append(options, producer.WithTrace(r.trace()))
	}
	p, err := rocketmq.NewProducer(options...)
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	mutex.Lock()
	producers[r.H] = p
	mutex.Unlock()
	return nil, nil
}

// trace is the configuration of the client's own trace: the topic, or "" for the default one. The group is not the producer's: the broker
// would ask the connection for traces how transactions end.
func (r *request) trace() *primitive.TraceConfig {
	return &primitive.TraceConfig{TraceTopic: *r.Trace, GroupName: "traces", Access: primitive.Local, NamesrvAddrs: []string{r.Namesrv}}
}

func instance(r *request) string {
	if r.Instance != "" {
		return r.Instance
	}
	return r.H
}

func (p *part) message(topic string) (*primitive.Message, error) {
	body := []byte(p.Text)
	if p.B64 != "" {
		decoded, err := base64.StdEncoding.DecodeString(p.B64)
		if err != nil {
			return nil, err
		}
		body = decoded
	}
	message := primitive.NewMessage(topic, body)
	message.Flag = p.Flag
	if p.Tags != "" {
		message.WithTag(p.Tags)
	}
	if p.Keys != "" {
		message.WithProperty(primitive.PropertyKeys, p.Keys)
	}
	if p.Delay > 0 {
		message.WithDelayTimeLevel(p.Delay)
	}
	for k, v := range p.Props {
		message.WithProperty(k, v)
	}
	return message, nil
}

func (r *request) one() (*primitive.Message, error) {
	message, err := r.message(r.Topic)
	if err == nil && r.Queue != nil {
		message.Queue = &primitive.MessageQueue{Topic: r.Topic, QueueId: *r.Queue}
	}
	return message, err
}

func producerOf(h string) rocketmq.Producer {
	mutex.Lock()
	defer mutex.Unlock()
	return producers[h]
}

func inboxOf(h string) *inbox {
	mutex.Lock()
	defer mutex.Unlock()
	return inboxes[h]
}

func send(r *request) (object, error) {
	message, err := r.one()
	if err != nil {
		return nil, err
	}
	p := producerOf(r.H)
	switch r.Mode {
	case "oneway":
		return nil, p.SendOneWay(context.Background(), message)
	case "async":
		results, err := async(p, []*primitive.Message{message})
		if err != nil {
			return nil, err
		}
		return results[0], nil
	}
	result, err := p.SendSync(context.Background(), message)
	if err != nil {
		return nil, err
	}
	return described(result), nil
}

func sendBatch(r *request) (object, error) {
	var batch []*primitive.Message
	for i := range r.Messages {
		message, err := r.Messages[i].message(r.Topic)
		if err != nil {
			return nil, err
		}
		batch = append(batch, message)
	}
	result, err := producerOf(r.H).SendSync(context.Background(), batch...)
	if err != nil {
		return nil, err
	}
	return described(result), nil
}

func sendMany(r *request) (object, error) {
	p := producerOf(r.H)
	var messages []*primitive.Message
	var results []object
	for i := 0; i < r.Count; i++ {
		message, err := r.one()
		if err != nil {
			return nil, err
		}
		message.Body = []byte(fmt.Sprintf("%s%d", r.Prefix, i))
		if r.Mode != "sync" {
			messages = append(messages, message)
			continue
		}
		result, err := p.SendSync(context.Background(), message)
		if err != nil {
			return nil, err
		}
		results = append(results, described(result))
	}
	if r.Mode != "sync" {
		var err error
		if results, err = async(p, messages); err != nil {
			return nil, err
		}
	}
	return object{"results": results}, nil
}

func async(p rocketmq.Producer, messages []*primitive.Message) ([]object, error) {
	done := make(chan error, len(messages))
	var lock sync.Mutex
	var results []object
	for _, message := range messages {
		err := p.SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
			if err == nil {
				lock.Lock()
				results = append(results, described(result))
				lock.Unlock()
			}
			done <- err
		}, message)
		if err != nil {
			return nil, err
		}
	}
	for range messages {
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
		case <-time.After(60 * time.Second):
			return nil, fmt.Errorf("a callback is missing after 60 s")
		}
	}
	return results, nil
}

func described(result *primitive.SendResult) object {
	status := "SEND_OK"
	if result.Status != primitive.SendOK {
		status = fmt.Sprintf("status %d", result.Status)
	}
	reply := object{"status": status, "msg_id": result.MsgID, "offset_msg_id": result.OffsetMsgID, "offset": result.QueueOffset}
	if result.MessageQueue != nil {
		reply["queue"] = result.MessageQueue.QueueId
		reply["broker"] = result.MessageQueue.BrokerName
	}
	return reply
}

type transactional struct {
	producer rocketmq.TransactionProducer
	outcomes *outcomes
}

func transactionalOf(h string) transactional {
	mutex.Lock()
	defer mutex.Unlock()
	return decided[h]
}

func startTransactionProducer(r *request) (object, error) {
	own := &outcomes{}
	options := []producer.Option{
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.Namesrv})), producer.WithGroupName(r.Group),
		producer.WithInstanceName(instance(r)), producer.WithRetry(2), producer.WithSendMsgTimeout(10 * time.Second),
		producer.WithQueueSelector(&byQueue{}), producer.WithVIPChannel(false),
	}
	if r.Trace != nil {
		options = append(options, producer.WithTrace(r.trace()))
	}
	p, err := rocketmq.NewTransactionProducer(own, options...)
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	mutex.Lock()
	decided[r.H] = transactional{p, own}
	mutex.Unlock()
	return nil, nil
}

func sendInTransaction(r *request) (object, error) {
	message, err := r.one()
	if err != nil {
		return nil, err
	}
	result, err := transactionalOf(r.H).producer.SendMessageInTransaction(context.Background(), message)
	if err != nil {
		return nil, err
	}
	return described(result.SendResult), nil
}

// outcomes are what a message's properties "local" and "check" say.
type outcomes struct {
	lock    sync.Mutex
	checked []string
}

func (o *outcomes) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	outcome := message.GetProperty("local")
	for outcome == "never" {
		time.Sleep(time.Hour)
	}
	return stateOf(outcome)
}

func (o *outcomes) CheckLocalTransaction(message *primitive.MessageExt) primitive.LocalTransactionState {
	text, answers := string(message.Body), strings.Split(message.GetProperty("check"), ",")
	o.lock.Lock()
	defer o.lock.Unlock()
	before := 0
	for _, other := range o.checked {
		if other == text {
			before++
		}
	}
	o.checked = append(o.checked, text)
	if before >= len(answers) {
		before = len(answers) - 1
	}
	return stateOf(answers[before])
}

func (o *outcomes) seen() []string {
	o.lock.Lock()
	defer o.lock.Unlock()
	return append([]string{}, o.checked...)
}

func stateOf(outcome string) primitive.LocalTransactionState {
	switch outcome {
	case "commit":
		return primitive.CommitMessageState
	case "rollback":
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func startConsumer(r *request) (object, error) {
	model, start := consumer.Clustering, consumer.ConsumeFromFirstOffset
	if r.Model == "BROADCASTING" {
		model = consumer.BroadCasting
	}
	if r.Start == "LAST_OFFSET" {
		start = consumer.ConsumeFromLastOffset
	}
	most, suspend := int32(-1), time.Second
	if r.MaxReconsume != nil {
		most = *r.MaxReconsume
	}
	if r.SuspendMs > 0 {
		suspend = time.Duration(r.SuspendMs) * time.Millisecond
	}
	options := []consumer.Option{
		consumer.WithMaxReconsumeTimes(most), consumer.WithSuspendCurrentQueueTimeMillis(suspend),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.Namesrv})),
		consumer.WithGroupName(r.Group), consumer.WithInstance(instance(r)), consumer.WithConsumerModel(model),
		consumer.WithConsumeFromWhere(start), consumer.WithConsumerOrder(r.Orderly), consumer.WithVIPChannel(false),
	}
	if r.Trace != nil {
		options = append(options, consumer.WithTrace(r.trace()))
	}
	if r.Threads > 0 {
		options = append(options, consumer.WithConsumeGoroutineNums(r.Threads))
	}
	c, err := rocketmq.NewPushConsumer(options...)
	if err != nil {
		return nil, err
	}
	box := &inbox{delay: time.Duration(r.DelayMs) * time.Millisecond, failures: r.FailFirst}
	box.changed = sync.NewCond(&box.lock)
	for topic, expression := range r.Subs {
		selector := consumer.MessageSelector{Type: consumer.TAG, Expression: expression}
		if strings.HasPrefix(expression, "SQL92:") {
			selector = consumer.MessageSelector{Type: consumer.SQL92, Expression: strings.TrimPrefix(expression, "SQL92:")}
		}
		err := c.Subscribe(topic, selector, func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			if box.accept(messages) {
				return consumer.ConsumeSuccess, nil
			}
			if r.Orderly {
				return consumer.SuspendCurrentQueueAMoment, nil
			}
			if concurrently, ok := primitive.GetConcurrentlyCtx(ctx); ok {
				concurrently.DelayLevelWhenNextConsume = r.RetryLevel
			}
			return consumer.ConsumeRetryLater, nil
		})
		if err != nil {
			return nil, err
		}
	}
	mutex.Lock()
	consumers[r.H], inboxes[r.H] = c, box
	mutex.Unlock()
	return nil, c.Start()
}

type inbox struct {
	lock     sync.Mutex
	changed  *sync.Cond
	received []object
	delay    time.Duration
	failures int32
}

func (b *inbox) accept(messages []*primitive.MessageExt) bool {
	time.Sleep(b.delay)
	b.lock.Lock()
	defer b.lock.Unlock()
	for _, m := range messages {
		item := object{"topic": m.Topic, "offset": m.QueueOffset, "msg_id": m.MsgId, "offset_msg_id": m.OffsetMsgId, "tags": m.GetTags(),
			"keys": m.GetKeys(), "props": m.GetProperties(), "flag": m.Flag, "sys_flag": m.SysFlag, "reconsumed": m.ReconsumeTimes,
			"born_ms": m.BornTimestamp, "stored_ms": m.StoreTimestamp, "size": len(m.Body)}
		if m.Queue != nil {
			item["queue"] = m.Queue.QueueId
		}
		if len(m.Body) <= 300 && utf8.Valid(m.Body) {
			item["text"] = string(m.Body)
		} else {
			item["sha256"] = fmt.Sprintf("%x", sha256.Sum256(m.Body))
		}
		b.received = append(b.received, item)
	}
	b.changed.Broadcast()
	b.failures--
	return b.failures < 0
}

func (b *inbox) wait(from, min, timeoutMs int) object {
	deadline := time.Now().Add(time.Duration(timeoutMs) * time.Millisecond)
	timer := time.AfterFunc(time.Until(deadline), func() { b.changed.Broadcast() })
	defer timer.Stop()
	b.lock.Lock()
	defer b.lock.Unlock()
	for len(b.received) < min && time.Now().Before(deadline) {
		b.changed.Wait()
	}
	if from > len(b.received) {
		from = len(b.received)
	}
	return object{"messages": append([]object{}, b.received[from:]...), "next": len(b.received)}
}

func stop(r *request) (object, error) {
	mutex.Lock()
	p, c, t := producers[r.H], consumers[r.H], decided[r.H].producer
	delete(producers, r.H)
	delete(decided, r.H)
	delete(consumers, r.H)
	mutex.Unlock()
	if p != nil {
		return nil, p.Shutdown()
	}
	if c != nil {
		return nil, c.Shutdown()
	}
	if t != nil {
		return nil, t.Shutdown()
	}
	return nil, nil
}
