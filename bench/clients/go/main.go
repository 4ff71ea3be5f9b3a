// The loads of `apogeemq bench` through Apache's Go client, with the same words and the same line of JSON; see ../java/Bench.java.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

var (
	flags       = flag.NewFlagSet("bench", flag.ExitOnError)
	namesrv     = flags.String("namesrv", "", "name server")
	topic       = flags.String("topic", "", "topic")
	pid         = flags.String("pid", "self", "process id of the server")
	size        = flags.Int("size", 1024, "bytes of a body")
	window      = flags.Int("window", 64, "requests in flight on a connection")
	connections = flags.Int("connections", 1, "producers")
	batch       = flags.Int("batch", 1, "messages of a request")
	rate        = flags.Int64("rate", 2000, "messages a second")
	seconds     = flags.Int("seconds", 10, "seconds to measure")
	warmup      = flags.Int("warmup", 3, "seconds before that")
	_           = flags.Int("queues", 8, "not used: the topic exists")
)

// What was measured between from and to.
type measured struct {
	from, to time.Time
	lock     sync.Mutex
	took     []time.Duration
	errors   int
	text     string
}

func begin() *measured {
	from := time.Now().Add(time.Duration(*warmup) * time.Second)
	return &measured{from: from, to: from.Add(time.Duration(*seconds) * time.Second), took: make([]time.Duration, 0, 1<<22)}
}

func (m *measured) add(took time.Duration, now time.Time) {
	if now.Before(m.from) || !now.Before(m.to) {
		return
	}
	m.lock.Lock()
	m.took = append(m.took, took)
	m.lock.Unlock()
}

func (m *measured) failed(err error) {
	m.lock.Lock()
	m.errors++
	m.text = err.Error()
	m.lock.Unlock()
}

// Prints the report. `messages` were answered in `span`, and took these CPU seconds.
func (m *measured) report(messages int, span time.Duration, server, own float64) {
	m.lock.Lock()
	defer m.lock.Unlock()
	sort.Slice(m.took, func(a, b int) bool { return m.took[a] < m.took[b] })
	latencies := map[string]float64{}
	for name, share := range map[string]float64{"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1} {
		if at := min(int(float64(len(m.took))*share), len(m.took)-1); at >= 0 {
			latencies[name] = float64(m.took[at].Microseconds()) / 1e3
		}
	}
	millions := float64(max(messages, 1)) / 1e6
	line, err := json.Marshal(map[string]any{
		"messages_per_s": float64(messages) / span.Seconds(), "errors": m.errors, "error_texts": []string{m.text}, "latency_ms": latencies,
		"own_cpu_s_per_million": own / millions, "server": map[string]float64{"cpu_s_per_million": server / millions, "anonymous_rss_mb": memory()},
	})
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// User and system time of a process so far, in seconds.
func cpu(pid string) float64 {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	check(err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

func memory() float64 {
	status, err := os.ReadFile("/proc/" + *pid + "/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		if rest, found := strings.CutPrefix(line, "RssAnon:"); found {
			kilobytes, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kilobytes / 1024
		}
	}
	return 0
}

// Waits for the measured time; the CPU that server and this process take in it.
func (m *measured) pass() (server, own float64) {
	time.Sleep(time.Until(m.from))
	server, own = cpu(*pid), cpu("self")
	time.Sleep(time.Until(m.to))
	return cpu(*pid) - server, cpu("self") - own
}

func newProducer(number int) rocketmq.Producer {
	p, err := rocketmq.NewProducer(producer.WithNsResolver(primitive.NewPassthroughResolver([]string{*namesrv})),
		producer.WithGroupName("bench-senders"), producer.WithInstanceName(fmt.Sprint("bench", number)))
	check(err)
	check(p.Start())
	return p
}

func consume(each func(messages []*primitive.MessageExt)) {
	c, err := rocketmq.NewPushConsumer(consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{*namesrv})),
		consumer.WithGroupName(fmt.Sprint("bench-readers-", time.Now().UnixNano())), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithPullBatchSize(32), consumer.WithConsumeMessageBatchMaxSize(32))
	check(err)
	check(c.Subscribe(*topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		each(messages)
		return consumer.ConsumeSuccess, nil
	}))
	check(c.Start())
}

func send() {
	body := make([]byte, *size)
	producers := make([]rocketmq.Producer, *connections)
	for n := range producers {
		producers[n] = newProducer(n)
	}
	m := begin()
	for _, p := range producers {
		go m.loop(p, body)
	}
	server, own := m.pass()
	m.lock.Lock()
	answers := len(m.took)
	m.lock.Unlock()
	m.report(answers**batch, m.to.Sub(m.from), server, own)
}

func (m *measured) loop(p rocketmq.Producer, body []byte) {
	free := make(chan struct{}, *window)
	for time.Now().Before(m.to) {
		messages := make([]*primitive.Message, *batch)
		for n := range messages {
			messages[n] = primitive.NewMessage(*topic, body)
		}
		begun := time.Now()
		done := func(result *primitive.SendResult, err error) {
			switch {
			case err != nil:
				m.failed(err)
			case result.Status != primitive.SendOK:
				m.failed(fmt.Errorf("send status %d", result.Status))
			default:
				now := time.Now()
				m.add(now.Sub(begun), now)
			}
		}
		if *window == 1 {
			done(p.SendSync(context.Background(), messages...))
			continue
		}
		free <- struct{}{}
		begun = time.Now()
		err := p.SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
			done(result, err)
			<-free
		}, messages...)
		if err != nil {
			m.failed(err)
			<-free
		}
	}
}

func endToEnd() {
	var started atomic.Pointer[measured]
	var sent, arrived, probes atomic.Int64
	origin := time.Now()
	consume(func(messages []*primitive.MessageExt) {
		now := time.Now()
		for _, message := range messages {
			if message.GetTags() != "" {
				probes.Add(1)
				continue
			}
			due := origin.Add(time.Duration(binary.BigEndian.Uint64(message.Body)))
			started.Load().add(now.Sub(due), now)
			arrived.Add(1)
		}
	})
	p := newProducer(0)
	// Until the consumer has its queues, which takes up to half a minute if it knew no route at its start.
	for tries := 0; probes.Load() == 0 && tries < 60; tries++ {
		_, err := p.SendSync(context.Background(), primitive.NewMessage(*topic, []byte{0}).WithTag("probe"))
		check(err)
		time.Sleep(time.Second)
	}
	m := begin()
	started.Store(m)
	var pace sync.WaitGroup
	pace.Add(1)
	go func() {
		defer pace.Done()
		begun := time.Now()
		for n := int64(0); ; n++ {
			due := begun.Add(time.Duration(n * int64(time.Second) / *rate))
			if !due.Before(m.to) {
				return
			}
			time.Sleep(time.Until(due))
			body := make([]byte, max(8, *size))
			binary.BigEndian.PutUint64(body, uint64(due.Sub(origin)))
			err := p.SendAsync(context.Background(), func(_ context.Context, _ *primitive.SendResult, err error) {
				if err != nil {
					m.failed(err)
					return
				}
				sent.Add(1)
			}, primitive.NewMessage(*topic, body))
			if err != nil {
				m.failed(err)
			}
		}
	}()
	server, own := m.pass()
	pace.Wait()
	for tries := 0; arrived.Load() < sent.Load() && tries < 100; tries++ {
		time.Sleep(100 * time.Millisecond)
	}
	if missing := sent.Load() - arrived.Load(); missing > 0 {
		m.failed(fmt.Errorf("%d messages did not arrive", missing))
	}
	m.report(len(m.took), m.to.Sub(m.from), server, own)
}

func recv() {
	m := begin()
	var count, first, last atomic.Int64
	begun := time.Now()
	server, own := cpu(*pid), cpu("self")
	consume(func(messages []*primitive.MessageExt) {
		now := int64(time.Since(begun))
		first.CompareAndSwap(0, now)
		last.Store(now)
		count.Add(int64(len(messages)))
	})
	// It is over when nothing came for a second.
	for last.Load() == 0 && time.Since(begun) < time.Minute || time.Since(begun)-time.Duration(last.Load()) < time.Second {
		time.Sleep(20 * time.Millisecond)
	}
	m.report(int(count.Load()), time.Duration(last.Load()-first.Load()), cpu(*pid)-server, cpu("self")-own)
}

func main() {
	rlog.SetLogLevel("error")
	if len(os.Args) < 2 {
		check(fmt.Errorf("usage: bench send|e2e|recv --namesrv HOST:PORT --topic NAME --pid PID"))
	}
	check(flags.Parse(os.Args[2:]))
	switch os.Args[1] {
	case "send":
		send()
	case "e2e":
		endToEnd()
	case "recv":
		recv()
	default:
		check(fmt.Errorf("no such load: %s", os.Args[1]))
	}
}
