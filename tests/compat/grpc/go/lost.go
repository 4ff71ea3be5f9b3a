package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	more        = 20
	lostMasters = "lostMasters"
)

// load sends one message after the other; it knows what was acknowledged, and the longest time without.
type load struct {
	acked  seen
	failed atomic.Int64
	isOver atomic.Bool
	last   time.Time
	gap    time.Duration
}

func (l *load) send(p mq.Producer, one *mq.Message, text string) bool {
	if _, err := p.Send(background, one); err != nil {
		l.failed.Add(1)
		time.Sleep(20 * time.Millisecond)
		return false
	}
	now := time.Now()
	l.gap = max(l.gap, now.Sub(l.last))
	l.last = now
	l.acked.add(text)
	return true
}

func (l *load) more() {
	before := l.acked.count()
	wait("more sends are acknowledged", func() bool { return l.acked.count() >= before+more })
}

func (l *load) said(what string) string {
	return fmt.Sprintf("       %s: %d acknowledged, %d failed, none acknowledged for %.2f s at most", what, l.acked.count(), l.failed.Load(), l.gap.Seconds())
}

func (s *seen) count() int {
	s.Lock()
	defer s.Unlock()
	return len(s.all)
}

// firsts are the texts in the order of their first delivery.
func (s *seen) firsts() (all []string) {
	s.Lock()
	defer s.Unlock()
	known := map[string]bool{}
	for _, text := range s.all {
		if !known[text] {
			known[text] = true
			all = append(all, text)
		}
	}
	return all
}

// missing is what was acknowledged and is not among these.
func (l *load) missing(got *seen) (lacking []string) {
	there := map[string]bool{}
	for _, text := range got.firsts() {
		there[text] = true
	}
	for _, text := range l.acked.firsts() {
		if !there[text] {
			lacking = append(lacking, text)
		}
	}
	return lacking
}

// losesMasters sends without a pause while masters are lost, and receives all of it; see LostMasters.java.
func losesMasters() {
	topic, ordered := name("lost"), name("lostfifo")
	var received, inOrder seen
	consumer := begun(topic, name("g-lost"), mq.SUB_ALL)
	defer consumer.GracefulStop()
	p := producer(topic, nil)
	defer p.GracefulStop()
	q := producer(ordered, nil)
	defer q.GracefulStop()
	pushed := push(ordered, name("g-lostfifo"), func(view *mq.MessageView) mq.ConsumerResult {
		inOrder.add(body(view))
		return mq.SUCCESS
	})
	defer pushed.GracefulStop()
	grouped := func(group, text string) *mq.Message {
		one := message(ordered, text)
		one.SetMessageGroup(group)
		return one
	}
	warm(q, func() (all []*mq.Message) {
		for n := range 8 {
			all = append(all, grouped(fmt.Sprint("w", n), "warm-0"))
		}
		return all
	}, func() bool { return inOrder.has("warm-0") })
	groups := []string{"a", "b", "c"}
	loads := []*load{{last: time.Now()}, {last: time.Now()}}
	var running sync.WaitGroup
	var over atomic.Bool
	running.Add(2)
	go func() {
		defer running.Done()
		for n := 0; !loads[0].isOver.Load(); n++ {
			text := fmt.Sprint("n", n)
			loads[0].send(p, message(topic, text), text)
		}
	}()
	go func() {
		defer running.Done()
		for n := 0; !loads[1].isOver.Load(); n++ {
			for _, group := range groups {
				text := fmt.Sprintf("%s-%d", group, n)
				for !loads[1].send(q, grouped(group, text), text) && !loads[1].isOver.Load() {
				}
			}
		}
	}()
	go func() {
		for !over.Load() {
			views, err := consumer.Receive(background, 32, 10*time.Second)
			if err != nil {
				time.Sleep(20 * time.Millisecond)
			}
			for _, view := range views {
				if consumer.Ack(background, view) == nil {
					received.add(body(view))
				}
			}
		}
	}()
	defer over.Store(true)
	for _, one := range loads {
		one.more()
	}
	fmt.Println("sending")
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() && orders.Text() == "more" {
		for _, one := range loads {
			one.more()
		}
		fmt.Println("more")
	}
	for _, one := range loads {
		one.isOver.Store(true)
	}
	running.Wait()
	wait("all are received and acknowledged", func() bool { return len(loads[0].missing(&received)) == 0 })
	wait("all in order are received", func() bool { return len(loads[1].missing(&inOrder)) == 0 })
	for _, group := range groups {
		last := -1
		for _, text := range inOrder.firsts() {
			var n int
			if strings.HasPrefix(text, group+"-") {
				fmt.Sscanf(text[2:], "%d", &n)
				check(n > last, fmt.Sprintf("group %s: %d after %d", group, n, last))
				last = n
			}
		}
	}
	fmt.Println(loads[0].said("sends"))
	fmt.Println(loads[1].said("sends to groups"))
}

// asked says whether the scenario is named: it needs somebody who loses the masters.
func asked(wanted []string) bool { return slices.Contains(wanted, lostMasters) }
