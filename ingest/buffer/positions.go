package buffer

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
)

// Position says how far a sender has got whose messages have offsets of their
// own, as those of another log that are forwarded into this one. A record of
// FormatPosition holds one, and is appended together with the data that it speaks
// of: both are durable or neither is. That is what makes a repeated request
// recognisable after a crash of either side.
type Position struct {
	// Sender names the log, topic and partition that the messages come from, behind
	// whose it is and a slash.
	Sender string

	// Session tells apart messages that have the same offset of the same sender, as
	// there are once a log was copied and both copies went on. A position says nothing
	// of other sessions.
	Session uint64

	// First and Last are the sender's offsets of the messages that came together.
	First, Last int64

	// Part of Parts has been appended: data that is divided is appended in this
	// order, each part with its position.
	Part, Parts int
}

// Held returns the sender's offset up to which everything is in the log.
func (p *Position) Held() int64 {
	if p.Part+1 < p.Parts {
		return p.First - 1
	}
	return p.Last
}

// Positions is what a Buffer may be that remembers positions: those of records
// that were appended, the newest of each sender, also after a restart.
type Positions interface {
	Position(sender string) (Position, bool)
}

// After is the rule by which a log that several append to decides which records
// count: of one sender's session in one partition, read in the log's order, a record
// counts if its position is after that of the last one that did. All others are
// repetitions, or came late from whoever had been given up. A request that was
// divided differently counts again: its parts cannot be compared.
func (p *Position) After(last *Position) bool {
	if p.First > last.Last {
		return true
	}
	return p.First == last.First && p.Last == last.Last && (p.Part > last.Part || p.Parts != last.Parts)
}

// Tries says when messages may have been sent before, to whomever. It is zero if
// they never were.
type Tries struct{ From, To time.Time }

// Never says that nothing was sent before.
func (t *Tries) Never() bool { return t.To.IsZero() }

// Recaller is what a Buffer may be that others append to as well: it keeps the
// position of a record with the record (Record.From) and, when it is asked, looks in
// the log itself which ones are there.
type Recaller interface {
	// Recall returns the position, by the rule of Position.After, of the sender's
	// session in a partition, among the records that were appended when it tried, or
	// before the call if that was a moment ago; known is false if there is none. An
	// error is temporary.
	Recall(ctx context.Context, topic string, partition int, of Origin) (last Position, known bool, err error)
}

// Origin is a sender's session, and when it may have sent what is looked for.
type Origin struct {
	Sender  string
	Session uint64
	Tries   Tries
}

// MaxPosition is the largest offset of a Position.
const MaxPosition = 1 << 62

const (
	// maxSenderBytes bounds what is kept for a sender, maxPositionBytes its record.
	maxSenderBytes   = 512
	maxPositionBytes = recordHeaderBytes + maxTenantBytes + maxSenderBytes + 5*binary.MaxVarintLen64

	// Names of senders come from clients. Beyond maxSenders of all, or maxOwnSenders
	// whose names begin with the same owner, those are forgotten that were not heard of
	// for longest: what they repeat is taken again.
	maxSenders    = 1 << 17
	maxOwnSenders = maxSenders / 2
	forgetShare   = 8 // a part of them at a time
)

// CheckSender says whether a sender's name is taken.
func CheckSender(name string) error {
	if name == "" || len(name) > maxSenderBytes {
		return fmt.Errorf("sender: got a name of %d bytes, want 1 to %d", len(name), maxSenderBytes)
	}
	return nil
}

// Append appends the payload of a record of FormatPosition to dst.
func (p *Position) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.First))
	dst = binary.AppendUvarint(dst, uint64(p.Last))
	dst = binary.AppendUvarint(dst, uint64(p.Part))
	dst = binary.AppendUvarint(dst, uint64(p.Parts))
	dst = binary.AppendUvarint(dst, p.Session)
	return append(dst, p.Sender...)
}

// DecodePosition reads what Append has written.
func DecodePosition(b []byte) (Position, error) {
	var v [5]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(b); n <= 0 {
			return Position{}, fmt.Errorf("decode position: number %d: got %d bytes, want a varint", i, len(b))
		}
		b = b[n:]
	}
	p := Position{Sender: string(b), Session: v[4], First: int64(v[0]), Last: int64(v[1]), Part: int(v[2]), Parts: int(v[3])}
	if v[0] > MaxPosition || v[1] > MaxPosition || v[2] > maxPayloadBytes || v[3] > maxPayloadBytes || p.First > p.Last || p.Part >= p.Parts {
		return Position{}, fmt.Errorf("decode position: got offsets %d to %d, part %d of %d", v[0], v[1], v[2], v[3])
	}
	return p, CheckSender(p.Sender)
}

// positions is what a log knows of its senders. What it was told since the last
// segment of a partition began is found again in that segment, which is read
// when the log opens; all before is in a file, written before a segment begins
// behind one that has positions.
type positions struct {
	mu       sync.Mutex // guards what follows
	bySender map[string]seenPosition
	owned    map[string]int // senders, by owner
}

// seenPosition is a position and when it was appended.
type seenPosition struct {
	Position
	at int64 // unix seconds
}

const (
	positionsName  = "POSITIONS"
	positionsMagic = "VEDLOGPO"

	// positionsKept is how long a sender is remembered that is not heard of.
	positionsKept = 90 * 24 * time.Hour
)

// Position implements Positions.
func (l *Log) Position(sender string) (Position, bool) {
	l.positions.mu.Lock()
	defer l.positions.mu.Unlock()
	s, ok := l.positions.bySender[sender]
	return s.Position, ok
}

// note remembers a position, unless a later one of its session is known. What is
// found when a log opens comes in no order: then one of another session is later if
// its offsets are.
func (s *positions) note(p Position, at int64, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.bySender[p.Sender]
	if ok && (found || p.Session == old.Session) &&
		(p.Last < old.Last || p.Last == old.Last && p.First == old.First && p.Part < old.Part) {
		return
	}
	if s.bySender == nil {
		s.bySender, s.owned = map[string]seenPosition{}, map[string]int{}
	}
	s.bySender[p.Sender] = seenPosition{p, at}
	if ok {
		return
	}
	owner := ownerOf(p.Sender)
	if s.owned[owner]++; s.owned[owner] > maxOwnSenders {
		s.forgetLocked(func(sender string) bool { return ownerOf(sender) == owner })
	}
	if len(s.bySender) > maxSenders {
		s.forgetLocked(func(string) bool { return true })
	}
}

func ownerOf(sender string) string {
	owner, _, _ := strings.Cut(sender, "/")
	return owner
}

// forgetLocked forgets a share of the senders that of names: the ones not heard of
// for longest.
func (s *positions) forgetLocked(of func(sender string) bool) {
	var list []seenPosition
	for sender, seen := range s.bySender {
		if of(sender) {
			list = append(list, seen)
		}
	}
	slices.SortFunc(list, func(a, b seenPosition) int { return cmp.Compare(a.at, b.at) })
	for _, seen := range list[:len(list)/forgetShare] {
		s.deleteLocked(seen.Sender)
	}
}

func (s *positions) deleteLocked(sender string) {
	delete(s.bySender, sender)
	owner := ownerOf(sender)
	if s.owned[owner]--; s.owned[owner] == 0 {
		delete(s.owned, owner)
	}
}

// notePositions remembers the positions among records that were appended.
func (p *partition) notePositions(records []Record) {
	for i := range records {
		if records[i].Format != FormatPosition {
			continue
		}
		if pos, err := DecodePosition(records[i].Payload); err == nil {
			p.hasPositions = true
			p.log.positions.note(pos, time.Now().Unix(), false)
		}
	}
}

// recoverPositions remembers what was found in the last segment.
func (p *partition) recoverPositions(payloads [][]byte) {
	p.hasPositions = len(payloads) > 0
	for _, b := range payloads {
		if pos, err := DecodePosition(b); err == nil {
			p.log.positions.note(pos, time.Now().Unix(), true)
		}
	}
}

// keepPositions writes all positions to their file if the segment that is about
// to be followed by another one has some.
func (p *partition) keepPositions() error {
	if !p.hasPositions {
		return nil
	}
	l := p.log
	l.positions.mu.Lock()
	b := l.positions.encodeLocked(time.Now())
	// The lock is held, lest an older state replaces a newer one.
	err := vfs.WriteFile(l.fs, filepath.Join(l.dir, positionsName), b)
	l.positions.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write positions of senders: %w", err)
	}
	p.hasPositions = false
	return nil
}

func (s *positions) encodeLocked(now time.Time) []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), positionsMagic...)
	b = le.AppendUint32(b, currentVersion)
	oldest := now.Add(-positionsKept).Unix()
	var body []byte
	for sender, seen := range s.bySender {
		if seen.at < oldest {
			s.deleteLocked(sender)
			continue
		}
		body = seen.Append(body[:0])
		b = le.AppendUint64(b, uint64(seen.at))
		b = le.AppendUint32(b, uint32(len(body)))
		b = append(b, body...)
	}
	return sealed(b)
}

func decodePositions(b []byte) ([]seenPosition, error) {
	if err := unseal(b, positionsMagic); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	var list []seenPosition
	for b = b[12 : len(b)-4]; len(b) > 0; {
		if len(b) < 12 {
			return nil, fmt.Errorf("%w: positions end within an entry", ErrCorruption)
		}
		at, n := int64(le.Uint64(b)), int64(le.Uint32(b[8:]))
		if n > int64(len(b)-12) {
			return nil, fmt.Errorf("%w: position of %d bytes, want at most %d", ErrCorruption, n, len(b)-12)
		}
		p, err := DecodePosition(b[12 : 12+n])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorruption, err)
		}
		list = append(list, seenPosition{p, at})
		b = b[12+n:]
	}
	return slices.Clip(list), nil
}

// loadPositions reads the file of positions, if there is one. A damaged one is
// set aside: requests that were repeated just then may be taken twice.
func (l *Log) loadPositions() error {
	file := filepath.Join(l.dir, positionsName)
	b, err := vfs.ReadFile(l.fs, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read positions of senders: %w", err)
	}
	list, err := decodePositions(b)
	var newer *VersionError
	if errors.As(err, &newer) {
		return fmt.Errorf("decode %s: %w", file, err)
	}
	if err != nil {
		l.logger.Error("The positions of senders are damaged: what they repeat now may be stored twice", "file", file+corruptSuffix, "err", err)
		if err := l.fs.Rename(file, file+corruptSuffix); err != nil {
			return fmt.Errorf("set aside %s: %w", file, err)
		}
		return l.fs.SyncDir(l.dir)
	}
	for _, s := range list {
		l.positions.note(s.Position, s.at, true)
	}
	return nil
}
