package redis

import (
	"math"

	"github.com/vedette-io/vedette/ebpf/protocol/framing"
)

// maxFurther is how many commands may wait behind maxWaiting.
const maxFurther = 8192

// Places in the list of commands that none has.
const (
	unseenCommand uint16 = math.MaxUint16 - iota // stands for commands that were not copied
	otherCommand
)

// brief is a command that waits behind others, with no more than it needs.
type brief struct {
	seq   uint32
	after uint32 // microseconds after the first one that waits so
	op    uint16 // its place in the list of commands
}

// further is what waits when the queue is full, as of pipelines that are longer.
type further struct {
	queue framing.Queue[brief]
	first framing.Origin
}

// push adds a command; false: there is no room.
func (f *further) push(op uint16, o framing.Origin) bool {
	if f.queue.Len() == 0 {
		f.first = o
	}
	b := f.queue.Push(maxFurther)
	if b == nil {
		return false
	}
	*b = brief{seq: o.Seq, after: uint32(min(max(o.AtNanos-f.first.AtNanos, 0)/1000, math.MaxUint32)), op: op}
	return true
}

// pop moves the oldest to w, and lets go of the memory with the last one.
func (f *further) pop(w *waiting) {
	b := f.queue.First()
	later := int64(b.after) * 1000
	o := framing.Origin{Seq: b.seq, AtNanos: f.first.AtNanos + later}
	if f.first.ReadyNanos != 0 {
		o.ReadyNanos = f.first.ReadyNanos + later
	}
	*w = waiting{op: other, unseen: b.op == unseenCommand, origin: o}
	if int(b.op) < len(commandNames) {
		w.op = commandNames[b.op]
	}
	if f.queue.Pop(); f.queue.Len() == 0 {
		*f = further{}
	}
}

// placeOf is the place of a command in the list.
func placeOf(op string) uint16 {
	if i, ok := commandPlaces[op]; ok {
		return i
	}
	return otherCommand
}
