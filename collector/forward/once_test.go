package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/vfs"
)

// receiver is a server that takes logs, on a file system that a crash takes back to
// what was durable.
type receiver struct {
	t    *testing.T
	fsys *vfs.Mem

	log  *buffer.Log
	door *door.Door
	next http.Handler
}

func openReceiver(t *testing.T, fsys *vfs.Mem, partitions int) *receiver {
	t.Helper()
	c := buffer.DefaultConfig()
	c.SegmentBytes = 16 << 10
	c.Partitions = map[string]int{buffer.TopicLogs: partitions}
	l, err := buffer.Open(c, fsys, "server", slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	d, next := openDoor(t, door.Options{Buffer: l, Positions: l})
	return &receiver{t, fsys, l, d, next}
}

func (r *receiver) close() {
	r.door.Close()
	if err := r.log.Close(); err != nil {
		r.t.Error(err)
	}
}

// all returns the records in the server's topic, in order within each partition.
func (r *receiver) all() (got [][]string) {
	r.t.Helper()
	got = make([][]string, r.log.Partitions(buffer.TopicLogs))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := r.log.Consume(ctx, "test", buffer.TopicLogs, func(ctx context.Context, c buffer.Claim) error {
			for {
				messages, err := c.Next(ctx)
				if err != nil {
					return err
				}
				for _, m := range messages {
					if m.Format == buffer.FormatPosition {
						continue
					}
					payload := m.Payload
					if m.Format == buffer.FormatOTLPLogsSnappy {
						if payload, err = appendPlain(nil, m.Payload); err != nil {
							return err
						}
					}
					got[c.Partition()] = append(got[c.Partition()], bodies(payload)...)
				}
			}
		})
		if err != nil {
			r.t.Error(err)
		}
	})
	synctest.Wait()
	cancel()
	wg.Wait()
	return got
}

// Whatever is lost on the way, there or back, and whoever dies when: every record
// is at the server once, and in order.
func TestOnce(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testOnce(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func testOnce(t *testing.T, random *rand.Rand) {
	onTheWay := rand.New(rand.NewPCG(random.Uint64(), 1))
	var mu sync.Mutex // guards onTheWay and what follows
	server := openReceiver(t, vfs.NewMem(), 1)
	agent := vfs.NewMem()
	c := DefaultConfig()
	c.BatchBytes = 3000
	handle := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		chance := onTheWay.IntN(10)
		if chance < 2 {
			panic(errors.New("lost on the way there"))
		}
		server.next.ServeHTTP(w, r)
		if chance == 2 { // the server dies behind what it has acknowledged
			again := server.fsys.CrashClone(onTheWay.Uint64())
			server.close()
			server = openReceiver(t, again, 1)
		}
		if chance < 5 {
			panic(errors.New("lost on the way back"))
		}
	}
	next := 0
	for range 8 {
		q := openQueue(t, agent, nil)
		stop := forwarding(t, q, c, testHTTP(t, c, handle))
		for range 1 + random.IntN(4) {
			n := 1 + random.IntN(30)
			addLogs(t, q, next, next+n, 100+random.IntN(300))
			next += n
			<-time.After(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
		killed := agent.CrashClone(random.Uint64())
		stop()
		_ = q.Close()
		agent = killed
	}
	q := openQueue(t, agent, nil)
	defer q.Close()
	stop := forwarding(t, q, c, testHTTP(t, c, handle))
	waitDone(t, q, buffer.TopicLogs, int64(next))
	stop()
	defer server.close()
	wantBodies(t, server.all()[0], numbers(0, next))
}

// The same, several partitions behind the door: nothing is there twice. Order holds
// within a partition only.
func TestOncePartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := openReceiver(t, vfs.NewMem(), 3)
		defer server.close()
		q := openQueue(t, vfs.NewMem(), nil)
		defer q.Close()
		lost := 0
		d := testHTTP(t, DefaultConfig(), func(w http.ResponseWriter, r *http.Request) {
			server.next.ServeHTTP(w, r)
			if lost++; lost%2 == 1 {
				panic(errors.New("lost on the way back"))
			}
		})
		stop := forwarding(t, q, DefaultConfig(), d)
		for i := range 20 {
			addLogs(t, q, 10*i, 10*i+10, 200)
			<-time.After(100 * time.Millisecond)
		}
		waitDone(t, q, buffer.TopicLogs, 200)
		stop()
		wantOnce(t, slices.Concat(server.all()...), 200)
	})
}

// Two agents of which one is a copy of the other, data directory included, number
// different messages alike: all arrive. What both have of before may come twice.
func TestCopiedAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := openReceiver(t, vfs.NewMem(), 1)
		defer server.close()
		fsys := vfs.NewMem()
		q := openQueue(t, fsys, nil)
		addLogs(t, q, 0, 10, 100)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		lost := 0
		handle := func(w http.ResponseWriter, r *http.Request) {
			server.next.ServeHTTP(w, r)
			if lost++; lost%2 == 1 {
				panic(errors.New("lost on the way back"))
			}
		}
		copied := fsys.CrashClone(1)
		for i, dir := range []*vfs.Mem{fsys, copied} {
			q := openQueue(t, dir, nil)
			stop := forwarding(t, q, DefaultConfig(), testHTTP(t, DefaultConfig(), handle))
			waitDone(t, q, buffer.TopicLogs, 10)
			for j := range 5 {
				addLogs(t, q, 10*(i+1)+j, 10*(i+1)+j+1, 100)
				waitDone(t, q, buffer.TopicLogs, int64(11+j))
			}
			stop()
			_ = q.Close()
		}
		want := slices.Concat(numbers(0, 15), numbers(0, 10), numbers(20, 25))
		wantBodies(t, server.all()[0], want)
	})
}

// A queue opened many times keeps a session for what is not delivered, and none for
// what is or was never there.
func TestSessions(t *testing.T) {
	fsys := vfs.NewMem()
	k := laneKey{buffer.TopicLogs, 0}
	open := func(next, committed int64) sessions {
		s, err := openSessions(fsys, "q", map[laneKey]int64{k: next}, map[laneKey]int64{k: committed}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := fsys.MkdirAll("q"); err != nil {
		t.Fatal(err)
	}
	first := open(0, 0)
	second := open(0, 0)
	third := open(10, 0)
	fourth := open(20, 5)
	id := func(s sessions, offset int64) uint64 { id, _ := s.of(k, offset); return id }
	if id(first, 0) == id(second, 0) || id(second, 3) != id(third, 3) || id(third, 9) == id(third, 10) || id(fourth, 9) != id(second, 0) || id(fourth, 19) != id(third, 10) {
		t.Errorf("sessions: got %v, %v, %v, %v", first, second, third, fourth)
	}
	if _, end := fourth.of(k, 0); end != 10 {
		t.Errorf("end of the first session: got %d, want 10", end)
	}
	if last := open(30, 25); len(last[k.String()]) != 2 {
		t.Errorf("sessions: got %v, want the last two", last)
	}
	for i := range int64(2 * maxSessions) {
		open(31+i, 25)
	}
	if last := open(1000, 25); len(last[k.String()]) != maxSessions+1 {
		t.Errorf("got %d sessions, want %d", len(last[k.String()]), maxSessions+1)
	}
	if err := vfs.WriteFile(fsys, "q/"+sessionsName, []byte("no")); err != nil {
		t.Fatal(err)
	}
	if s := open(1000, 25); len(s[k.String()]) != 1 || id(s, 30) == id(fourth, 30) {
		t.Errorf("damaged: got %v", s)
	}
}
