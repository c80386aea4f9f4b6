package forward

import (
	"context"
	"errors"
	"strings"
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

// noting is a destination that takes one message at a time down and answers with err. It
// belongs to a bubble of which one goroutine at a time runs.
type noting struct {
	err      error
	attempts []attempt
}

func (*noting) Choose([]buffer.Message) int { return 1 }
func (*noting) Close() error                { return nil }
func (n *noting) Send(_ context.Context, b *Batch) (Receipt, error) {
	if b.Topic == buffer.TopicLogs {
		n.attempts = append(n.attempts, attempt{time.Now(), b.first(), b.Session, b.Tries})
	}
	return Receipt{}, n.err
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
	again := func(down time.Duration, with error) *noting {
		agent = end(stop, agent)
		_ = q.Close()
		pass(down)
		q = openQueue(t, agent, nil)
		d = &noting{err: with}
		stop = forwarding(t, q, c, d)
		return d
	}
	// near says whether a time is the wanted one, but for an attempt and its pause.
	near := func(got, want time.Time) bool { return got.Sub(want).Abs() <= c.Timeout+c.MaxBackoff }

	addLogs(t, q, 0, 1, 0)
	pass(time.Minute)
	d.err = &RetryError{Reason: "503", Err: errors.New("503")}
	refused := time.Now()
	addLogs(t, q, 1, 10, 0)
	pass(10 * time.Minute)
	d.err = &RetryError{Reason: "network", Unsent: true, Err: errors.New("no route")}
	cut := time.Now()
	addLogs(t, q, 10, 20, 0)
	pass(5 * time.Hour)

	d = again(time.Hour, nil)
	pass(time.Minute)
	if len(d.attempts) != 19 {
		t.Fatalf("got %d attempts, want 19", len(d.attempts))
	}
	for i, a := range d.attempts {
		if a.first != int64(i)+1 {
			t.Errorf("got offset %d, want %d", a.first, i+1)
		}
		if got := a.session == d.attempts[0].session; got != (i == 0) {
			t.Errorf("offset %d: is of session %d, the one that was sent of %d", a.first, a.session, d.attempts[0].session)
		}
		switch {
		case i > 0 && !a.tries.Never():
			t.Errorf("offset %d was never sent: got %+v", a.first, a.tries)
		case i == 0 && (!near(a.tries.From, refused) || !near(a.tries.To, cut)):
			t.Errorf("offset %d: got %+v, want %s to %s", a.first, a.tries, refused, cut)
		}
	}

	// Cut again, now for good; what was collected long before is on its way when the agent ends.
	d.err = &RetryError{Reason: "network", Unsent: true, Err: errors.New("no route")}
	addLogs(t, q, 20, 30, 0)
	pass(5 * time.Hour)
	d.err = nil
	catching := time.Now()
	for pass(time.Millisecond); len(d.attempts) > 0 && d.attempts[len(d.attempts)-1].first < 29; pass(100 * time.Millisecond) {
	}
	killed := time.Now()
	d = again(time.Minute, nil)
	addLogs(t, q, 30, 31, 0)
	pass(time.Minute)
	for _, a := range d.attempts {
		if !a.tries.Never() && (a.tries.From.Before(catching.Add(-c.MaxBackoff)) || a.tries.To.Before(killed.Add(-commitInterval))) {
			t.Errorf("offset %d: got %+v, want since %s, until %s at least", a.first, a.tries, catching, killed)
		}
	}
	if n := len(d.attempts); n == 0 || d.attempts[n-1].first != 30 || !d.attempts[n-1].tries.Never() {
		t.Errorf("got %+v, want 30 at last, never sent", d.attempts)
	}
	t.Logf("%d attempts since %s: %+v", len(d.attempts), killed, d.attempts)
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
		agent, full := vfs.NewMem(), false
		q := openQueue(t, vfs.Faulty(agent, func(op vfs.Op) error {
			if full && op.Kind == vfs.OpCreate && strings.Contains(op.Name, group) {
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
		full = true
		sent := time.Now()
		addLogs(t, q, 0, 1, 0)
		pass(time.Hour)
		d.err = &RetryError{Reason: "503", Err: errors.New("503")}
		addLogs(t, q, 1, 2, 0)
		pass(time.Minute)
		agent = agent.CrashClone(1)
		stop()
		_ = q.Close()

		q = openQueue(t, agent, nil)
		d = &noting{}
		stop = forwarding(t, q, DefaultConfig(), d)
		pass(time.Minute)
		if len(d.attempts) != 2 || d.attempts[0].first != 0 {
			t.Fatalf("got %+v, want offsets 0 and 1", d.attempts)
		}
		if got := d.attempts[0].tries; got.Never() || got.From.After(sent.Add(time.Second)) {
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
