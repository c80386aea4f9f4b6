package buffer

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
)

// appendFrom appends data with the position of its sender.
func appendFrom(t *testing.T, l *Log, p Position, payload string) {
	t.Helper()
	records := []Record{{Tenant: "tenant", Format: FormatPosition, Payload: p.Append(nil)}, record(payload)}
	if _, err := l.Append(context.Background(), testTopic, 0, records); err != nil {
		t.Fatal(err)
	}
}

// Whatever a power failure leaves, a position is known exactly if its data is
// there, also once the segments that held it were consumed and are gone.
func TestPositionsSurviveCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		l := openTest(t, testConfig(), fsys)
		sent := map[string]int64{}
		for i := range int64(200) {
			sender := fmt.Sprintf("agent-%d/t/0", i%3)
			appendFrom(t, l, Position{Sender: sender, First: 10 * i, Last: 10*i + 9, Parts: 1}, big("x", 300))
			sent[sender] = 10*i + 9
			if i%50 == 49 {
				readPositions(t, l)
			}
			if i%20 != 19 {
				continue
			}
			again := openTest(t, testConfig(), fsys.CrashClone(uint64(i)))
			for sender, last := range sent {
				if p, ok := again.Position(sender); !ok || p.Held() != last {
					t.Errorf("after message %d, crash: position of %s: got %d (known: %t), want %d", i, sender, p.Held(), ok, last)
				}
			}
			closeTest(t, again)
		}
		if files := segmentFiles(t, fsys); len(files) > 2 {
			t.Errorf("consumed segments stay: %v", files)
		}
		closeTest(t, l)
	})
}

// readPositions consumes everything.
func readPositions(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- l.Consume(ctx, "reader", testTopic, func(ctx context.Context, c Claim) error {
			for {
				msgs, err := c.Next(ctx)
				if err != nil {
					return err
				}
				if err := c.Commit(ctx, msgs[len(msgs)-1].Offset+1); err != nil {
					return err
				}
			}
		})
	}()
	synctest.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// An append that was torn leaves neither data nor position.
func TestPositionOfTornAppend(t *testing.T) {
	fsys := vfs.NewMem()
	l := openTest(t, testConfig(), fsys)
	appendFrom(t, l, Position{Sender: "a", First: 0, Last: 4, Parts: 1}, "one")
	appendFrom(t, l, Position{Sender: "a", First: 5, Last: 9, Parts: 1}, "two")
	closeTest(t, l)
	flip(t, fsys, segmentFiles(t, fsys)[0], -1)
	l = openTest(t, testConfig(), fsys)
	defer closeTest(t, l)
	if p, ok := l.Position("a"); !ok || p.Held() != 4 {
		t.Errorf("position: got %d (known: %t), want 4", p.Held(), ok)
	}
}

func TestPositionHeld(t *testing.T) {
	for _, c := range []struct {
		p    Position
		want int64
	}{
		{Position{First: 3, Last: 7, Part: 0, Parts: 1}, 7},
		{Position{First: 3, Last: 7, Part: 0, Parts: 2}, 2},
		{Position{First: 3, Last: 7, Part: 1, Parts: 2}, 7},
	} {
		if got := c.p.Held(); got != c.want {
			t.Errorf("held of %+v: got %d, want %d", c.p, got, c.want)
		}
	}
}

// A damaged file of positions is set aside; what comes is remembered again.
func TestPositionsDamaged(t *testing.T) {
	fsys := vfs.NewMem()
	l := openTest(t, testConfig(), fsys)
	for i := range int64(100) {
		appendFrom(t, l, Position{Sender: "a", First: i, Last: i, Parts: 1}, big("x", 300))
	}
	closeTest(t, l)
	b, err := vfs.ReadFile(fsys, testDir+"/"+positionsName)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := vfs.WriteFile(fsys, testDir+"/"+positionsName, b); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, testConfig(), fsys)
	defer closeTest(t, l)
	if p, ok := l.Position("a"); !ok || p.Held() != 99 {
		t.Errorf("position out of the last segment: got %d (known: %t), want 99", p.Held(), ok)
	}
	if ok, err := vfs.Exists(fsys, testDir+"/"+positionsName+corruptSuffix); err != nil || !ok {
		t.Errorf("the damaged file is not set aside: %v", err)
	}
}

func FuzzDecodePosition(f *testing.F) {
	f.Add((&Position{Sender: "embedded/x/vedette.logs/0", First: 5, Last: 900, Part: 1, Parts: 3, Session: 1 << 63}).Append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePosition(b)
		if err != nil {
			return
		}
		again, err := DecodePosition(p.Append(nil))
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("round trip: got %+v (%v), want %+v", again, err, p)
		}
	})
}

func FuzzDecodePositions(f *testing.F) {
	var s positions
	s.note(Position{Sender: "a", First: 5, Last: 900, Parts: 3}, 7, false)
	f.Add(s.encodeLocked(time.Unix(8, 0)))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = decodePositions(b)
		_, _ = decodePositions(sealed(append([]byte(positionsMagic+"\x01\x00\x00\x00"), b...)))
	})
}

// What DropOldest removes was shown to the caller, and readers go on behind it.
func TestDropOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openTest(t, testConfig(), vfs.NewMem())
		defer closeTest(t, l)
		var want []string
		for i := range 60 {
			payload := big(fmt.Sprintf("%02d", i), 300)
			appendTest(t, l, payload)
			want = append(want, payload)
			time.Sleep(time.Second) // of the bubble's clock
		}
		var dropped []string
		see := func(_ string, _ int, m *Message) {
			if m.Appended == 0 || m.Offset != int64(len(dropped)) {
				t.Errorf("dropped message: got offset %d, appended %d; want offset %d", m.Offset, m.Appended, len(dropped))
			}
			dropped = append(dropped, string(m.Payload))
		}
		before := l.SizeBytes()
		d, ok, err := l.DropOldest(t.Context(), time.Time{}, see)
		if err != nil || !ok || d.From != 0 || d.To != int64(len(dropped)) || len(dropped) == 0 || before-l.SizeBytes() != d.Bytes {
			t.Fatalf("drop: got %+v, %t, %v, %d messages shown, %d bytes fewer", d, ok, err, len(dropped), before-l.SizeBytes())
		}
		wantPayloads(t, readAll(t, l, "a", -1, false), want[len(dropped):]...)
		// The one that is appended to goes too, once it is the oldest, but nothing that is newer than asked for.
		if _, ok, err := l.DropOldest(t.Context(), time.Now().Add(-time.Hour), see); ok || err != nil {
			t.Fatalf("drop what is older than an hour: got %t, %v", ok, err)
		}
		for range 10 {
			if _, _, err := l.DropOldest(t.Context(), time.Time{}, see); err != nil {
				t.Fatal(err)
			}
		}
		if fmt.Sprint(dropped) != fmt.Sprint(want) {
			t.Errorf("dropped %d messages, want all %d", len(dropped), len(want))
		}
		appendTest(t, l, "new")
		wantPayloads(t, readAll(t, l, "a", -1, false), "new")
	})
}

// RollOlder ends a segment that is old enough.
func TestRollOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		l := openTest(t, testConfig(), fsys)
		defer closeTest(t, l)
		appendTest(t, l, "one")
		time.Sleep(time.Minute)
		for range 2 { // an empty segment is not replaced
			if err := l.RollOlder(t.Context(), time.Now().Add(-30*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		if files := segmentFiles(t, fsys); len(files) != 2 {
			t.Errorf("segments: got %v, want 2", files)
		}
	})
}

// Appends of the round that ends a segment are in that segment, and so are their
// positions: they are known after a crash.
func TestPositionsOfRoundThatEndsSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		l := openTest(t, testConfig(), fsys)
		appendTest(t, l, "one")
		p := l.topics[testTopic].partitions[0]
		if !p.tryLead() { // so that what follows is one round
			t.Fatal("somebody leads")
		}
		seg := p.segments[0]
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.leave(t.Context(), seg); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		wg.Go(func() { appendFrom(t, l, Position{Sender: "a", First: 0, Last: 4, Parts: 1}, "two") })
		synctest.Wait()
		p.handOver()
		wg.Wait()
		again := openTest(t, testConfig(), fsys.CrashClone(1))
		if p, ok := again.Position("a"); !ok || p.Held() != 4 {
			t.Errorf("position after a crash: got %d (known: %t), want 4", p.Held(), ok)
		}
		closeTest(t, again)
		closeTest(t, l)
	})
}

// Names of senders do not fill the memory; those of one owner do not make those of
// others be forgotten.
func TestPositionsBounded(t *testing.T) {
	var s positions
	s.note(Position{Sender: "good/a", Last: 7, Parts: 1}, 0, false)
	for i := range int64(3 * maxOwnSenders) {
		s.note(Position{Sender: fmt.Sprintf("bad/%d", i), Parts: 1}, i+1, false)
	}
	if n := len(s.bySender); n > maxOwnSenders+1 || n < maxOwnSenders/2 || s.owned["bad"] != n-1 {
		t.Errorf("senders: got %d, %d of one owner, want at most %d", n, s.owned["bad"], maxOwnSenders)
	}
	if _, ok := s.bySender[fmt.Sprintf("bad/%d", 3*maxOwnSenders-1)]; !ok {
		t.Error("the newest is forgotten")
	}
	if _, ok := s.bySender["good/a"]; !ok {
		t.Error("another owner's is forgotten")
	}
}

// The newest position of another session counts, whatever its offsets are.
func TestPositionSessions(t *testing.T) {
	fsys := vfs.NewMem()
	l := openTest(t, testConfig(), fsys)
	appendFrom(t, l, Position{Sender: "a", Session: 1, First: 5, Last: 9, Parts: 1}, "one")
	appendFrom(t, l, Position{Sender: "a", Session: 2, First: 0, Last: 4, Parts: 1}, "two")
	if p, _ := l.Position("a"); p.Session != 2 || p.Held() != 4 {
		t.Errorf("position: got %+v, want session 2, up to 4", p)
	}
	closeTest(t, l)
}

// A segment whose file is gone or cannot be read is dropped as well.
func TestDropUnreadable(t *testing.T) {
	fsys := vfs.NewMem()
	var broken atomic.Bool
	l := openTest(t, testConfig(), vfs.Faulty(fsys, func(op vfs.Op) error {
		if broken.Load() && op.Kind == vfs.OpRead {
			return syscall.EIO
		}
		return nil
	}))
	defer closeTest(t, l)
	for range 100 {
		appendTest(t, l, big("x", 300))
	}
	if err := fsys.Remove(l.topics[testTopic].partitions[0].segments[0].path); err != nil {
		t.Fatal(err)
	}
	see := func(string, int, *Message) { t.Error("a message was shown") }
	to := int64(0)
	for range 2 {
		before := l.SizeBytes()
		d, ok, err := l.DropOldest(t.Context(), time.Time{}, see)
		if err != nil || !ok || d.Unread == nil || d.From != to || d.To <= to || l.SizeBytes() != before-d.Bytes {
			t.Fatalf("drop: got %+v, %t, %v", d, ok, err)
		}
		to = d.To
		broken.Store(true)
	}
}
