package kafka

import (
	"encoding/binary"
	"fmt"
	"io"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// heartbeat is a Heartbeat request, version 3, that encodes itself: kafka-go
// v0.4.51 reads the answers of all versions but the first with their two fields
// exchanged, so that a rebalance looks like a throttled success.
type heartbeat struct {
	group      string
	generation int32
	member     string
	instance   string // empty is none
}

// heartbeatAnswer is the coordinator's verdict.
type heartbeatAnswer struct{ err error }

const (
	heartbeatKey        = 12
	heartbeatVersion    = 3
	heartbeatID         = 1 // the connection has no other request under way
	maxHeartbeatAnswer  = 64
	heartbeatAnswerSize = 10 // correlation id, throttle time, error code
)

// ApiKey implements protocol.Message.
func (*heartbeat) ApiKey() protocol.ApiKey { return protocol.Heartbeat }

// ApiKey implements protocol.Message.
func (*heartbeatAnswer) ApiKey() protocol.ApiKey { return protocol.Heartbeat }

// Group implements protocol.GroupMessage: it goes to the group's coordinator.
func (h *heartbeat) Group() string { return h.group }

// Required implements protocol.RawExchanger.
func (*heartbeat) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements protocol.RawExchanger.
func (h *heartbeat) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	be := binary.BigEndian
	b := be.AppendUint16(make([]byte, 4, 64), heartbeatKey)
	b = be.AppendUint16(b, heartbeatVersion)
	b = be.AppendUint32(b, heartbeatID)
	b = be.AppendUint16(b, ^uint16(0)) // no client id
	b = be.AppendUint16(b, uint16(len(h.group)))
	b = append(b, h.group...)
	b = be.AppendUint32(b, uint32(h.generation))
	b = be.AppendUint16(b, uint16(len(h.member)))
	b = append(b, h.member...)
	if h.instance == "" {
		b = be.AppendUint16(b, ^uint16(0)) // null
	} else {
		b = be.AppendUint16(b, uint16(len(h.instance)))
		b = append(b, h.instance...)
	}
	be.PutUint32(b, uint32(len(b)-4))
	if _, err := rw.Write(b); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(rw, size[:]); err != nil {
		return nil, err
	}
	n := be.Uint32(size[:])
	if n < heartbeatAnswerSize || n > maxHeartbeatAnswer {
		return nil, fmt.Errorf("read answer to heartbeat: got %d bytes, want %d", n, heartbeatAnswerSize)
	}
	answer := make([]byte, n)
	if _, err := io.ReadFull(rw, answer); err != nil {
		return nil, err
	}
	if id := be.Uint32(answer); id != heartbeatID {
		return nil, fmt.Errorf("read answer to heartbeat: got correlation id %d, want %d", id, heartbeatID)
	}
	a := &heartbeatAnswer{}
	if code := kafkago.Error(int16(be.Uint16(answer[8:]))); code != 0 {
		a.err = code
	}
	return a, nil
}
