package framing

import "github.com/vedette-io/vedette/ebpf/protocol"

// Exchange is what parsers of protocols in which one side asks and the other answers
// have in common. The zero value is that of a connection of which nothing has been
// seen. It is to be embedded.
type Exchange[W any] struct {
	Asks   protocol.Direction // of requests, once Sided
	Sided  bool
	Over   bool     // nothing more is followed
	Losses int      // how often the place was lost
	Queue  Queue[W] // what waits for its answer
}

// Lost is how often the parser lost its place.
func (e *Exchange[W]) Lost() int { return e.Losses }

// Server says whether the process answers.
func (e *Exchange[W]) Server() bool { return e.Asks == protocol.Received }

// Begin settles that requests come in a direction.
func (e *Exchange[W]) Begin(asks protocol.Direction) { e.Asks, e.Sided = asks, true }

// End stops following: what waits has got no answer and is dropped, and its memory
// let go.
func (e *Exchange[W]) End() {
	e.Over = true
	e.Queue = Queue[W]{}
}

// GiveUp is End of a connection that goes on in a way that is not followed: it is
// encrypted, or speaks another protocol.
func (e *Exchange[W]) GiveUp() {
	e.End()
	e.Losses++
}
