package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
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
	// Sender names the log, topic and partition that the messages come from.
	Sender string

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

// maxSenderBytes bounds what is kept for a sender.
const maxSenderBytes = 512

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
	return append(dst, p.Sender...)
}

// DecodePosition reads what Append has written.
func DecodePosition(b []byte) (Position, error) {
	var v [4]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(b); n <= 0 {
			return Position{}, fmt.Errorf("decode position: number %d: got %d bytes, want a varint", i, len(b))
		}
		b = b[n:]
	}
	const most = 1 << 62
	p := Position{Sender: string(b), First: int64(v[0]), Last: int64(v[1]), Part: int(v[2]), Parts: int(v[3])}
	if v[0] > most || v[1] > most || v[2] > maxPayloadBytes || v[3] > maxPayloadBytes || p.First > p.Last || p.Part >= p.Parts {
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

// note remembers a position, unless a later one is known.
func (s *positions) note(p Position, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.bySender[p.Sender]
	if ok && (p.Last < old.Last || p.Last == old.Last && p.First == old.First && p.Part < old.Part) {
		return
	}
	if s.bySender == nil {
		s.bySender = map[string]seenPosition{}
	}
	s.bySender[p.Sender] = seenPosition{p, at}
}

// notePositions remembers the positions among records that were appended.
func (p *partition) notePositions(records []Record) {
	for i := range records {
		if records[i].Format != FormatPosition {
			continue
		}
		if pos, err := DecodePosition(records[i].Payload); err == nil {
			p.hasPositions = true
			p.log.positions.note(pos, time.Now().Unix())
		}
	}
}

// recoverPositions remembers what was found in the last segment.
func (p *partition) recoverPositions(payloads [][]byte) {
	p.hasPositions = len(payloads) > 0
	for _, b := range payloads {
		if pos, err := DecodePosition(b); err == nil {
			p.log.positions.note(pos, time.Now().Unix())
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
			delete(s.bySender, sender)
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
		l.positions.note(s.Position, s.at)
	}
	return nil
}
