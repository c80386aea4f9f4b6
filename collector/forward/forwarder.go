package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
)

const (
	// commitInterval bounds how much is sent again after a kill where the
	// destination cannot tell.
	commitInterval = 250 * time.Millisecond

	expireInterval = 10 * time.Second
	sayAgain       = time.Minute // while the destination stays away
	sayNextLoss    = 10 * time.Second
)

// Options are what a Forwarder is made of.
type Options struct {
	Queue  *Queue
	Config Config

	// Destination is where messages go; nil is what Config names.
	Destination Destination

	Logger     *slog.Logger
	Registerer prometheus.Registerer // of the destination; may be nil
}

// Forwarder ships what is in a Queue. It owns its destination.
type Forwarder struct {
	q       *Queue
	cfg     Config
	dest    Destination
	logger  *slog.Logger
	metrics *metrics
}

// New returns a forwarder. Nothing is sent before Run.
func New(o Options) (*Forwarder, error) {
	f := &Forwarder{q: o.Queue, cfg: o.Config, dest: o.Destination, logger: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), metrics: o.Queue.metrics}
	if err := f.cfg.Validate(); err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	var err error
	switch {
	case f.dest != nil:
	case f.cfg.ToKafka():
		f.dest = NewKafka(f.cfg, f.logger, o.Registerer)
	case f.cfg.Endpoint != "":
		f.dest, err = NewHTTP(f.cfg, f.logger)
	default:
		err = errors.New("endpoint: is empty, want the URL of a server, or kafka.brokers")
	}
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	return f, nil
}

// Run ships until ctx ends. What is not acknowledged by then stays in the queue.
func (f *Forwarder) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(Topics())+1)
	for i, topic := range Topics() {
		wg.Go(func() {
			if errs[i] = f.q.Consume(ctx, group, topic, f.ship); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Go(func() { f.expire(ctx) })
	wg.Wait()
	errs[len(errs)-1] = f.dest.Close()
	return errors.Join(errs...)
}

// expire drops what is too old, from time to time.
func (f *Forwarder) expire(ctx context.Context) {
	tick := time.NewTicker(expireInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := f.q.expire(ctx, now); err != nil && ctx.Err() == nil {
				f.logger.Warn("drop messages that are too old", "err", err)
			}
		}
	}
}

// shipper ships one partition.
type shipper struct {
	*Forwarder
	lane      laneKey
	claim     buffer.Claim
	logger    *slog.Logger
	done      int64 // offset behind what was delivered or given up
	committed int64
	due       time.Time // of the next commit

	tried *tried

	awaySince time.Time // zero while the destination answers
	said      time.Time // when that was logged last

	uncommitted, unread, refusals, leftOut seldom
}

// seldom keeps a log from being filled by what may happen with every message.
type seldom struct {
	last time.Time
	kept int // that were not said since
}

// say returns whether it is time to say it, at most once per interval, and how often
// it was not said.
func (s *seldom) say(interval time.Duration) (kept int, ok bool) {
	now := time.Now()
	if !s.last.IsZero() && now.Sub(s.last) < interval {
		s.kept++
		return 0, false
	}
	kept = s.kept
	s.last, s.kept = now, 0
	return kept, true
}

func (f *Forwarder) ship(ctx context.Context, c buffer.Claim) error {
	k := laneKey{c.Topic(), c.Partition()}
	s := &shipper{Forwarder: f, lane: k, claim: c, logger: f.logger.With("topic", k.topic, "partition", k.partition)}
	s.committed = c.Committed()
	s.done = s.committed
	s.tried = s.q.tried(k)
	s.sayGap()
	err := s.run(ctx)
	s.q.rest(k)
	s.noteRest(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// sayGap tells what the queue lost while nobody could say so.
func (s *shipper) sayGap() {
	n := s.q.said.untold(s.lane, s.committed, s.claim.Oldest())
	if n == 0 {
		return
	}
	s.metrics.drop(s.lane.topic, dropRestart, &loss{messages: int(n)})
	s.logger.Error("Messages that were under way when the agent died are no longer in the queue, which had become full: the destination may lack them", "messages", n)
}

func (s *shipper) run(ctx context.Context) error {
	for {
		messages, err := s.next(ctx)
		if err != nil {
			return err
		}
		for len(messages) > 0 && ctx.Err() == nil {
			if messages[0].Format == buffer.FormatPosition { // of a sender to this log
				s.done, messages = messages[0].Offset+1, messages[1:]
				continue
			}
			var batch []buffer.Message
			if batch, messages = s.q.take(s.lane, messages, s.choose); len(batch) == 0 {
				continue
			}
			if err := s.deliver(ctx, batch); err != nil {
				return err
			}
			s.q.rest(s.lane)
			if time.Now().After(s.due) {
				s.commit(ctx)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// choose is the destination's choice of what goes together.
func (s *shipper) choose(messages []buffer.Message) int {
	for i := range messages {
		if messages[i].Format == buffer.FormatPosition {
			messages = messages[:max(i, 1)]
			break
		}
	}
	_, end := s.q.opened.of(s.lane, messages[0].Offset)
	n := sort.Search(len(messages), func(i int) bool { return messages[i].Offset >= end })
	return s.dest.Choose(messages[:max(n, 1)])
}

// next waits for messages, and commits what was delivered while there are none. A
// queue that cannot be read is tried again: the other partitions go on, and what is in
// the way is dropped when the queue is full or it is too old. An error is the context's.
func (s *shipper) next(ctx context.Context) ([]buffer.Message, error) {
	for attempt := 0; ; {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if s.done != s.committed {
			wait, cancel = context.WithDeadline(ctx, s.due)
		}
		messages, err := s.claim.Next(wait)
		expired := wait.Err() != nil
		cancel()
		switch {
		case err == nil:
			return messages, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case expired:
			s.commit(ctx)
			continue
		}
		s.metrics.retries.WithLabelValues(s.lane.topic, "read").Inc()
		if _, ok := s.unread.say(sayAgain); ok {
			s.logger.Error("The queue cannot be read: it is tried again", "err", err)
		}
		if err := s.sleep(ctx, attempt, 0); err != nil {
			return nil, err
		}
		attempt++
	}
}

// commit notes what was delivered. If the disk does not take it, as when it is full,
// delivery goes on: that is what makes room.
func (s *shipper) commit(ctx context.Context) {
	s.due = time.Now().Add(commitInterval)
	if s.done == s.committed {
		return
	}
	if err := s.q.commit(ctx, s.claim, s.done); err == nil {
		s.committed = s.done
	} else if _, ok := s.uncommitted.say(sayAgain); ok && ctx.Err() == nil {
		s.logger.Warn("What was delivered cannot be noted: it is tried again, and comes again if the agent ends before", "err", err)
	}
}

// noteRest notes what was delivered, and that nothing is being sent. What was delivered and is not
// noted was sent before the first attempt that such a note would tell of.
func (s *shipper) noteRest(ctx context.Context) {
	if s.commit(ctx); s.done == s.committed {
		s.q.sent.rest(s.lane, s.tried)
	}
}

// deliver sends messages until they are acknowledged or refused for good; an error
// is the context's.
func (s *shipper) deliver(ctx context.Context, messages []buffer.Message) error {
	for attempt := 0; len(messages) > 0; attempt++ {
		id, _ := s.q.opened.of(s.lane, messages[0].Offset)
		b := &Batch{Source: s.q.Source(), Session: id, Topic: s.lane.topic, Partition: s.lane.partition, Partitions: s.q.Partitions(s.lane.topic), Tries: s.tried.of(messages), Messages: messages}
		s.q.sent.before(s.lane, s.tried, messages, s.cfg.attemptLasts())
		begin := time.Now()
		receipt, err := s.dest.Send(ctx, b)
		s.tried.note(messages, begin, err)
		s.metrics.seconds.WithLabelValues(s.lane.topic).Observe(time.Since(begin).Seconds())
		var (
			held      *HeldError
			cut       *CutError
			permanent *PermanentError
		)
		switch {
		case err == nil:
			s.back()
			s.sent(messages, b.payloadBytes(), receipt)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &held):
			s.back()
			n := upTo(messages, held.UpTo)
			b.Messages = messages[:n]
			s.sent(b.Messages, b.payloadBytes(), Receipt{})
			messages, attempt = messages[n:], 0
		case errors.As(err, &cut) && upTo(messages, cut.At) > 0:
			s.back()
			n := upTo(messages, cut.At)
			if err := s.deliver(ctx, messages[:n]); err != nil {
				return err
			}
			messages, attempt = messages[n:], 0
		case errors.As(err, &permanent) && len(messages) > 1:
			s.back()
			for i := range messages { // one of them is to blame
				if err := s.deliver(ctx, messages[i:i+1]); err != nil {
					return err
				}
			}
			return nil
		case errors.As(err, &permanent):
			s.back()
			s.giveUp(messages, dropRefused, err)
			return nil
		case s.tooOld(messages):
			s.giveUp(messages, dropAge, err)
			return nil
		default:
			if err := s.pause(ctx, attempt, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// upTo returns how many of the messages have an offset of at most that.
func upTo(messages []buffer.Message, offset int64) (n int) {
	for n < len(messages) && messages[n].Offset <= offset {
		n++
	}
	return n
}

// sent notes messages that were acknowledged.
func (s *shipper) sent(messages []buffer.Message, bytes int, r Receipt) {
	if len(messages) == 0 {
		return
	}
	s.done = messages[len(messages)-1].Offset + 1
	s.metrics.sentMessages.WithLabelValues(s.lane.topic).Add(float64(len(messages)))
	s.metrics.sentBytes.WithLabelValues(s.lane.topic).Add(float64(bytes))
	if r.Refused > 0 {
		s.metrics.items.WithLabelValues(s.lane.topic).Add(float64(r.Refused))
		if kept, ok := s.leftOut.say(sayNextLoss); ok {
			s.logger.Warn("The destination has left out a part of what it took", kindOf(s.lane.topic), r.Refused, "message", r.Message, "before_unsaid", kept)
		}
	}
}

// tooOld says whether messages have waited for longer than the queue keeps any: what
// a destination never takes, and never refuses, does not hold up the others for good.
func (s *shipper) tooOld(messages []buffer.Message) bool {
	age := s.q.cfg.MaxAge
	return age > 0 && time.Since(time.UnixMilli(messages[len(messages)-1].Appended)) > age
}

// giveUp notes messages that are not tried again.
func (s *shipper) giveUp(messages []buffer.Message, reason string, err error) {
	s.done = messages[len(messages)-1].Offset + 1
	var lost loss
	s.q.count(&lost, messages)
	s.metrics.drop(s.lane.topic, reason, &lost)
	if kept, ok := s.refusals.say(sayNextLoss); ok {
		s.logger.Error("The destination does not take a message: it is dropped", append([]any{
			"reason", reason, "err", err, "offset", messages[0].Offset, "before_unsaid", kept,
		}, lost.attrs(s.lane.topic)...)...)
	}
}

// pause waits before the next attempt: twice as long each time, at most MaxBackoff,
// half of it by chance so that agents do not come all at once; and at least as long
// as the destination has asked for.
func (s *shipper) pause(ctx context.Context, attempt int, cause error) error {
	reason, after := "other", time.Duration(0)
	var again *RetryError
	if errors.As(cause, &again) {
		reason, after = again.Reason, again.After
	}
	s.metrics.retries.WithLabelValues(s.lane.topic, reason).Inc()
	s.metrics.connected.WithLabelValues(s.lane.topic).Set(0)
	now := time.Now()
	if s.awaySince.IsZero() {
		s.awaySince = now
	}
	if now.Sub(s.said) >= sayAgain {
		s.said = now
		s.logger.Warn("The destination does not take messages: they stay in the queue", "since", now.Sub(s.awaySince).Round(time.Second),
			"queue_bytes", s.q.SizeBytes(), "queue_limit_bytes", s.q.cfg.MaxBytes, "err", cause)
	}
	s.noteRest(ctx)
	return s.sleep(ctx, attempt, after)
}

// sleep waits for twice as long with each attempt, and at least for after.
func (s *shipper) sleep(ctx context.Context, attempt int, after time.Duration) error {
	wait := min(firstBackoff<<min(attempt, 20), s.cfg.MaxBackoff)
	wait = wait/2 + rand.N(wait/2+1)
	timer := time.NewTimer(max(wait, after))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// back notes that the destination has answered.
func (s *shipper) back() {
	s.metrics.connected.WithLabelValues(s.lane.topic).Set(1)
	if !s.awaySince.IsZero() {
		s.logger.Info("The destination takes messages again", "after", time.Since(s.awaySince).Round(time.Millisecond))
		s.awaySince, s.said = time.Time{}, time.Time{}
	}
}
