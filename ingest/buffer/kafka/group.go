package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/vedette-io/vedette/ingest/buffer"
)

const (
	groupProtocolType = "consumer"
	groupProtocol     = "vedette-cooperative"
	maxBeatInterval   = time.Second
	leaveTimeout      = 2 * time.Second
	groupPause        = 100 * time.Millisecond
	maxGroupPause     = time.Second
)

// member is one call of Consume: a member of a consumer group, with Kafka's
// classic group protocol. Its goroutine is that of run; every claim has one more.
//
// Claims outlive a rebalance, unless the new assignment lacks them, and a loss
// of the connection, unless the coordinator has given them to another member
// meanwhile.
//
// A static member has an instance id. One that joins under an id that the group
// knows takes the place of the member before it, with its partitions and its
// role, and the group has no rebalance: a process that was killed goes on at
// once. The member before it is fenced: all it asks for is refused.
type member struct {
	b        *Buffer
	t        *topic
	group    string // in Kafka
	instance string // empty: a dynamic member
	handle   func(context.Context, buffer.Claim) error

	ctx    context.Context // of all claims; ends when a handler has failed
	cancel context.CancelFunc

	claims map[int]*claim // by partition; also those whose handler has returned
	dealt  int            // partitions of the topic when they were dealt out
	rounds int            // rebalances that this member has asked for

	mu         sync.Mutex // guards what follows
	id         string
	generation int
	failure    error
}

func newMember(b *Buffer, t *topic, group string, handle func(context.Context, buffer.Claim) error) *member {
	return &member{
		b: b, t: t, group: b.cfg.Topics.Prefix + group, handle: handle,
		claims: map[int]*claim{}, dealt: math.MaxInt, generation: -1,
	}
}

// instances hands out instance ids: every group of a topic has one member with
// an id in a process; further ones are dynamic.
type instances struct {
	mu    sync.Mutex
	taken map[string]bool // by group and topic
}

// take returns an instance id, empty for a dynamic member, and what gives it
// back.
func (i *instances) take(id, group, topic string) (instance string, release func()) {
	key := group + "/" + topic
	i.mu.Lock()
	defer i.mu.Unlock()
	if id == "" || i.taken[key] {
		return "", func() {}
	}
	if i.taken == nil {
		i.taken = map[string]bool{}
	}
	i.taken[key] = true
	return id + "." + topic, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.taken, key)
	}
}

// run is a member's life.
func (m *member) run(ctx context.Context) error {
	m.ctx, m.cancel = context.WithCancel(ctx)
	defer m.cancel()
	var release func()
	m.instance, release = m.b.instances.take(m.b.cfg.Consumer.InstanceID, m.group, m.t.name)
	defer release()
	m.b.metrics.addMember(m)
	defer m.b.metrics.removeMember(m)
	pause, fresh := groupPause, true
	for m.ctx.Err() == nil {
		assigned, final, err := m.join(m.ctx)
		if err == nil {
			again := m.take(assigned)
			if final {
				m.t.noteJoined(len(assigned))
			}
			// One that begins in the middle of a move may be the very member that the
			// group waits for, without having anything left to give up.
			again = again || (!final && fresh && m.instance != "")
			pause, fresh = groupPause, false
			if again {
				m.rounds++
			} else {
				m.stay()
			}
			continue
		}
		if m.ctx.Err() != nil {
			break
		}
		m.t.metrics.groupErrors.Inc()
		m.note(err)
		if errors.Is(err, kafkago.RebalanceInProgress) {
			continue
		}
		if pause > groupPause && m.b.warned.group.allow() { // a new coordinator needs a moment
			m.b.logger.Warn("join group, trying again", "group", m.group, "topic", m.t.kafka, "err", err)
		}
		if sleep(m.ctx, pause) {
			pause = min(2*pause, maxGroupPause)
		}
	}
	m.giveUp(m.partitions(), false)
	m.leave()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failure
}

// fail ends the member with a handler's error.
func (m *member) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure == nil {
		m.failure = err
	}
	m.cancel()
}

func (m *member) identity() (id string, generation int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id, m.generation
}

func (m *member) setIdentity(id string, generation int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.generation = id, generation
}

func (m *member) partitions() []int {
	out := make([]int, 0, len(m.claims))
	for i := range m.claims {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// join takes part in a rebalance and returns the partitions that this member is
// to have; unless that is final, another round follows soon.
func (m *member) join(ctx context.Context) (assigned []int, final bool, err error) {
	cfg := &m.b.cfg.Consumer
	ctx, cancel := context.WithTimeout(ctx, cfg.RebalanceTimeout+cfg.SessionTimeout)
	defer cancel()
	id, _ := m.identity()
	var resp *kafkago.JoinGroupResponse
	for range 2 { // a new dynamic member is given its id by an error first
		resp, err = m.b.client.JoinGroup(ctx, &kafkago.JoinGroupRequest{
			GroupID:          m.group,
			SessionTimeout:   cfg.SessionTimeout,
			RebalanceTimeout: cfg.RebalanceTimeout,
			MemberID:         id,
			GroupInstanceID:  m.instance,
			ProtocolType:     groupProtocolType,
			Protocols: []kafkago.GroupProtocol{{
				Name: groupProtocol,
				Metadata: kafkago.GroupProtocolSubscription{
					Topics: []string{m.t.kafka},
					// The coordinator begins a round for a member whose metadata has changed.
					UserData:        strconv.AppendInt(nil, int64(m.rounds), 10),
					OwnedPartitions: map[string][]int{m.t.kafka: m.partitions()},
				},
			}},
		})
		if err != nil {
			return nil, false, err
		}
		if !errors.Is(resp.Error, kafkago.MemberIDRequired) {
			break
		}
		id = resp.MemberID
	}
	if resp.Error != nil {
		return nil, false, fmt.Errorf("join group %s: %w", m.group, resp.Error)
	}
	m.setIdentity(resp.MemberID, resp.GenerationID)
	req := &kafkago.SyncGroupRequest{
		GroupID:         m.group,
		GenerationID:    resp.GenerationID,
		MemberID:        resp.MemberID,
		GroupInstanceID: m.instance,
		ProtocolType:    groupProtocolType,
		ProtocolName:    groupProtocol,
	}
	if resp.LeaderID == resp.MemberID {
		if req.Assignments, err = m.assignments(ctx, resp.Members); err != nil {
			return nil, false, err
		}
	}
	synced, err := m.b.client.SyncGroup(ctx, req)
	if err == nil && synced.Error != nil {
		err = fmt.Errorf("sync group %s: %w", m.group, synced.Error)
	}
	if err != nil {
		return nil, false, err
	}
	m.t.metrics.generations.Inc()
	d := decodeDeal(synced.Assignment.UserData)
	if n, ok := d.Partitions[m.t.kafka]; ok {
		m.dealt = n
	}
	return synced.Assignment.AssignedPartitions[m.t.kafka], !d.Moving, nil
}

// countPartitions returns how many partitions a topic has, by its name in Kafka.
// The answer comes from memory and is some seconds old at most.
func (b *Buffer) countPartitions(ctx context.Context, topic string) (int, error) {
	meta, err := b.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	if len(meta.Topics) != 1 || meta.Topics[0].Error != nil {
		return 0, nil // it is not one of ours, or it is gone
	}
	return len(meta.Topics[0].Partitions), nil
}

// take makes the claims what is assigned. It returns true if partitions were
// given up: the group has to be told.
func (m *member) take(assigned []int) (again bool) {
	var revoked []int
	for _, i := range m.partitions() {
		if !slices.Contains(assigned, i) {
			revoked = append(revoked, i)
		}
	}
	m.giveUp(revoked, false)
	for _, i := range assigned {
		if m.claims[i] != nil {
			continue
		}
		c, err := newClaim(m.ctx, m, i)
		if err != nil {
			return false // the member is ending
		}
		m.claims[i] = c
		go m.serve(c)
	}
	m.b.logger.Info("partitions assigned", "group", m.group, "topic", m.t.kafka, "partitions", assigned, "given_up", revoked)
	return len(revoked) > 0
}

// serve runs the handler of a claim. One that returns by itself keeps the
// partition, so that it is not handled again.
func (m *member) serve(c *claim) {
	defer close(c.done)
	err := m.handle(c.ctx, c)
	ended := c.ctx.Err() != nil
	c.close()
	if err != nil && !(ended && (isContextError(err) || errors.Is(err, errLost) || c.isLost())) {
		m.fail(err)
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// giveUp ends claims and waits for their handlers, which may commit meanwhile
// unless the claims are lost.
func (m *member) giveUp(partitions []int, lost bool) {
	var ending []*claim
	for _, i := range partitions {
		c := m.claims[i]
		if lost {
			c.lose()
		}
		c.cancel()
		ending = append(ending, c)
	}
	beat := time.NewTicker(m.beatInterval())
	defer beat.Stop()
	for _, c := range ending {
		for waiting := true; waiting; {
			select {
			case <-c.done:
				waiting = false
			case <-beat.C:
				if !c.isLost() {
					m.note(m.beat(context.Background()))
				}
			}
		}
		if i := c.p.index; m.claims[i] == c {
			delete(m.claims, i)
		}
	}
}

// stay keeps the membership alive until there is a rebalance or the member
// ends.
func (m *member) stay() {
	beat := time.NewTicker(m.beatInterval())
	defer beat.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-beat.C:
		}
		err := m.beat(m.ctx)
		m.note(err)
		if id, _ := m.identity(); id == "" || errors.Is(err, kafkago.RebalanceInProgress) {
			return
		}
		if n, err := m.b.countPartitions(m.ctx, m.t.kafka); err == nil && n > m.dealt {
			m.b.logger.Info("topic has got more partitions", "topic", m.t.kafka, "partitions", n)
			m.rounds++
			return
		}
	}
}

func (m *member) beatInterval() time.Duration {
	return min(m.b.cfg.Consumer.SessionTimeout/6, maxBeatInterval)
}

// beat tells the coordinator that this member is alive.
func (m *member) beat(ctx context.Context) error {
	id, generation := m.identity()
	if id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, max(m.b.cfg.Consumer.SessionTimeout/3, time.Second))
	defer cancel()
	resp, err := m.b.transport.RoundTrip(ctx, m.b.client.Addr, &heartbeat{
		group: m.group, generation: int32(generation), member: id, instance: m.instance,
	})
	if err != nil {
		return err
	}
	answer, ok := resp.(*heartbeatAnswer)
	if !ok {
		return errors.New("heartbeat: got an answer of another kind")
	}
	return answer.err
}

// note draws the conclusions from an answer of the coordinator: whoever is not
// a member any more has lost what it held. While there is no answer nothing is
// lost: without Kafka there is nothing to read either, and its clock for this
// member starts anew when it is back.
func (m *member) note(err error) {
	if errors.Is(err, kafkago.FencedInstanceID) {
		m.fail(fmt.Errorf("consume %s as a member of group %s: another process has joined with the same consumer.instance_id, %s, and has the partitions now: %w",
			m.t.name, m.group, m.b.cfg.Consumer.InstanceID, err))
	}
	if id, _ := m.identity(); id == "" || !isFenced(err) {
		return
	}
	if m.ctx.Err() == nil {
		m.b.logger.Warn("membership lost", "group", m.group, "topic", m.t.kafka, "partitions", m.partitions(), "err", err)
	}
	m.setIdentity("", -1)
	m.giveUp(m.partitions(), true)
}

// leave tells the coordinator, so that others need not wait for the session's
// end.
func (m *member) leave() {
	id, _ := m.identity()
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	resp, err := m.b.client.LeaveGroup(ctx, &kafkago.LeaveGroupRequest{
		GroupID: m.group, Members: []kafkago.LeaveGroupRequestMember{{ID: id, GroupInstanceID: m.instance}},
	})
	if err == nil {
		err = resp.Error
		for i := range resp.Members {
			err = errors.Join(err, resp.Members[i].Error)
		}
	}
	if err != nil {
		m.b.logger.Warn("leave group", "group", m.group, "topic", m.t.kafka, "err", err)
	}
}

// committedOffset asks for what the group has committed until it gets an answer
// or ctx ends; it is negative if there is nothing.
func (m *member) committedOffset(ctx context.Context, partition int) (int64, error) {
	for pause := groupPause; ; pause = min(2*pause, maxGroupPause) {
		offset, err := m.committedOnce(ctx, partition)
		if err == nil || ctx.Err() != nil {
			return offset, err
		}
		if pause > groupPause && m.b.warned.group.allow() {
			m.b.logger.Warn("read committed offset, trying again", "group", m.group, "topic", m.t.kafka, "partition", partition, "err", err)
		}
		if !sleep(ctx, pause) {
			return 0, ctx.Err()
		}
	}
}

func (m *member) committedOnce(ctx context.Context, partition int) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, boundsTimeout)
	defer cancel()
	resp, err := m.b.client.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{
		GroupID: m.group, Topics: map[string][]int{m.t.kafka: {partition}},
	})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		return 0, err
	}
	for _, p := range resp.Topics[m.t.kafka] {
		if p.Partition == partition {
			return p.CommittedOffset, p.Error
		}
	}
	return 0, fmt.Errorf("read committed offset of %s/%d: got an answer without the partition", m.t.kafka, partition)
}

// commit records an offset of a claim, through a rebalance if there is one.
func (m *member) commit(ctx context.Context, c *claim, next int64) error {
	ctx, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	for pause := firstRetryPause; ; pause = min(2*pause, maxRetryPause) {
		err := m.commitOnce(ctx, c.p.index, next)
		switch {
		case err == nil:
			return nil
		case c.isLost() || errors.Is(err, kafkago.UnknownMemberId) || errors.Is(err, kafkago.FencedInstanceID):
			return fmt.Errorf("%w: %w", errLost, err)
		case isRefusal(err) || !sleep(ctx, pause):
			return err
		}
	}
}

func (m *member) commitOnce(ctx context.Context, partition int, next int64) error {
	id, generation := m.identity()
	if id == "" {
		return errLost
	}
	resp, err := m.b.client.OffsetCommit(ctx, &kafkago.OffsetCommitRequest{
		GroupID: m.group, GenerationID: generation, MemberID: id, InstanceID: m.instance,
		Topics: map[string][]kafkago.OffsetCommit{m.t.kafka: {{Partition: partition, Offset: next}}},
	})
	if err != nil {
		return err
	}
	for _, p := range resp.Topics[m.t.kafka] {
		if p.Partition == partition {
			return p.Error
		}
	}
	return errors.New("got an answer without the partition")
}
