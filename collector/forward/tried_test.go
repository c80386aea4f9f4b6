package forward

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/vfs"
)

// attempt is a batch that a destination was given.
type attempt struct {
	at      time.Time
	first   int64
	session uint64
	tries   buffer.Tries
}

// noting is a destination that takes one message at a time down and answers as it is told.
type noting struct {
	mu       sync.Mutex // guards what follows
	err      error
	attempts []attempt
}

func (*noting) Choose([]buffer.Message) int { return 1 }
func (*noting) Close() error                { return nil }
func (n *noting) Send(_ context.Context, b *Batch) (Receipt, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b.Topic == buffer.TopicLogs {
		n.attempts = append(n.attempts, attempt{time.Now(), b.first(), b.Session, b.Tries})
	}
	return Receipt{}, n.err
}

// answer has it answer with err from now on.
func (n *noting) answer(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

// all returns what it was given.
func (n *noting) all() []attempt {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.attempts)
}

// What an agent was killed with is looked for only if it may have been sent, and only in the time in
// which it was: not in the hours in which nothing could be reached, nor in those that the agent was down.
func TestTriedOutlivesProcess(t *testing.T) {
	for name, end := range map[string]func(stop func(), agent *vfs.Mem) *vfs.Mem{
		"killed": func(stop func(), agent *vfs.Mem) *vfs.Mem {
			killed := agent.CrashClone(1)
			stop()
			return killed
		},
		"stopped": func(stop func(), agent *vfs.Mem) *vfs.Mem {
			stop()
			return agent
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testTriedOutlives(t, end) })
		})
	}
}

func testTriedOutlives(t *testing.T, end func(stop func(), agent *vfs.Mem) *vfs.Mem) {
	c := DefaultConfig()
	agent := vfs.NewMem()
	q := openQueue(t, agent, nil)
	d := &noting{}
	stop := forwarding(t, q, c, d)
	pass := func(wait time.Duration) {
		<-time.After(wait)
		synctest.Wait()
	}
	again := func(down time.Duration) *noting {
		agent = end(stop, agent)
		_ = q.Close()
		pass(down)
		q = openQueue(t, agent, nil)
		d = &noting{}
		stop = forwarding(t, q, c, d)
		return d
	}
	// near says whether a time is the wanted one, but for an attempt and its pause.
	near := func(got, want time.Time) bool { return got.Sub(want).Abs() <= c.Timeout+c.MaxBackoff }

	addLogs(t, q, 0, 1, 0)
	pass(time.Minute)
	d.answer(&RetryError{Reason: "503", Err: errors.New("503")})
	refused := time.Now()
	addLogs(t, q, 1, 10, 0)
	pass(10 * time.Minute)
	d.answer(&RetryError{Reason: "network", Unsent: true, Err: errors.New("no route")})
	cut := time.Now()
	addLogs(t, q, 10, 20, 0)
	pass(5 * time.Hour)

	d = again(time.Hour)
	pass(time.Minute)
	attempts := d.all()
	if len(attempts) != 19 {
		t.Fatalf("got %d attempts, want 19", len(attempts))
	}
	for i, a := range attempts {
		if a.first != int64(i)+1 {
			t.Errorf("got offset %d, want %d", a.first, i+1)
		}
		if got := a.session == attempts[0].session; got != (i == 0) {
			t.Errorf("offset %d: is of session %d, the one that was sent of %d", a.first, a.session, attempts[0].session)
		}
		switch {
		case i > 0 && !a.tries.Never():
			t.Errorf("offset %d was never sent: got %+v", a.first, a.tries)
		case i == 0 && (!near(a.tries.From, refused) || !near(a.tries.To, cut)):
			t.Errorf("offset %d: got %+v, want %s to %s", a.first, a.tries, refused, cut)
		}
	}

	// Cut again, now for good; what was collected long before is on its way when the agent ends.
	d.answer(&RetryError{Reason: "network", Unsent: true, Err: errors.New("no route")})
	addLogs(t, q, 20, 30, 0)
	pass(5 * time.Hour)
	d.answer(nil)
	catching := time.Now()
	for pass(time.Millisecond); d.all()[len(d.all())-1].first < 29; pass(100 * time.Millisecond) {
	}
	killed := time.Now()
	d = again(time.Minute)
	addLogs(t, q, 30, 31, 0)
	pass(time.Minute)
	attempts = d.all()
	for _, a := range attempts {
		if !a.tries.Never() && (a.tries.From.Before(catching.Add(-c.MaxBackoff)) || a.tries.To.Before(killed.Add(-commitInterval))) {
			t.Errorf("offset %d: got %+v, want since %s, until %s at least", a.first, a.tries, catching, killed)
		}
	}
	if n := len(attempts); n == 0 || attempts[n-1].first != 30 || !attempts[n-1].tries.Never() {
		t.Errorf("got %+v, want 30 at last, never sent", attempts)
	}
	t.Logf("%d attempts since %s: %+v", len(attempts), killed, attempts)
	stop()
	_ = q.Close()
}

// A file of what was sent that is damaged, or of another log, says nothing.
func TestTriedDamaged(t *testing.T) {
	for _, text := range []string{"", "{", "null", `{"vedette.logs/0":{"below":1000000,"last":1}}`, `{"vedette.logs/0":{"below":-5,"first":-1,"last":-1,"again":-1}}`} {
		agent := vfs.NewMem()
		q := openQueue(t, agent, nil)
		addLogs(t, q, 0, 3, 0)
		if err := vfs.WriteFile(agent, "queue/"+triedName, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = q.Close()
		q = openQueue(t, agent, nil)
		tried := q.tried(laneKey{buffer.TopicLogs, 0})
		if tried.below != 3 {
			t.Errorf("%q: got all below %d, want 3, where the queue ends", text, tried.below)
		}
		_ = q.Close()
	}
}

// What was delivered and cannot be noted is looked for as well, in the time in which it was sent.
func TestTriedWithoutCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		agent := vfs.NewMem()
		q := openQueue(t, vfs.Faulty(agent, func(op vfs.Op) error {
			if full.Load() && op.Kind == vfs.OpCreate && strings.Contains(op.Name, group) {
				return errors.New("no space left on device")
			}
			return nil
		}), nil)
		d := &noting{}
		stop := forwarding(t, q, DefaultConfig(), d)
		pass := func(wait time.Duration) {
			<-time.After(wait)
			synctest.Wait()
		}
		pass(time.Minute)
		full.Store(true)
		sent := time.Now()
		addLogs(t, q, 0, 1, 0)
		pass(time.Hour)
		d.answer(&RetryError{Reason: "503", Err: errors.New("503")})
		addLogs(t, q, 1, 2, 0)
		pass(time.Minute)
		agent = agent.CrashClone(1)
		stop()
		_ = q.Close()

		q = openQueue(t, agent, nil)
		d = &noting{}
		stop = forwarding(t, q, DefaultConfig(), d)
		pass(time.Minute)
		attempts := d.all()
		if len(attempts) != 2 || attempts[0].first != 0 {
			t.Fatalf("got %+v, want offsets 0 and 1", attempts)
		}
		if got := attempts[0].tries; got.Never() || got.From.After(sent.Add(time.Second)) {
			t.Errorf("got %+v, want since %s, when offset 0 was delivered", got, sent)
		}
		stop()
		_ = q.Close()
	})
}

// A clock that was ahead and has been set back does not narrow the time in which is looked.
func TestTriedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		appended, now := time.Now().Add(-time.Hour), time.Now()
		ahead := now.Add(24 * time.Hour).UnixMilli()
		messages := []buffer.Message{{Offset: 7, Appended: appended.UnixMilli()}}
		for _, left := range []triedNote{
			{Below: 5, First: ahead, Last: ahead, Again: ahead},
			{Below: 10, First: ahead, Last: ahead},
			{Below: 10, First: ahead, Last: ahead, Again: appended.Add(-time.Hour).UnixMilli()},
		} {
			if got := newTried(10, left, true).of(messages); !got.From.Equal(appended) || !got.To.Equal(now) {
				t.Errorf("%+v: got %+v, want %s to %s", left, got, appended, now)
			}
		}
	})
}
