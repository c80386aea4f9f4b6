package ingest

import (
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Outcome is what became of a Delivery.
type Outcome struct {
	Result signal.AppendResult

	// Known is false if no consumer of this process has stored the batch: the
	// message is durable and will be stored, but what of it cannot be said yet.
	Known bool
}

// Delivery is the attachment of a record whose producer has decoded it already.
// It ends once, by Finish or by Discard.
type Delivery struct {
	// The batch, of which one is not nil, is valid until the delivery ends.
	Metrics *signal.Metrics
	Spans   *signal.Spans
	Logs    *signal.Logs

	outcomes chan<- Outcome
	release  func()
}

// NewDelivery attaches the batch of a part. Its end sends to outcomes, which must
// have room, and then calls release: the batch is not used any more.
func NewDelivery(p *wire.Part, outcomes chan<- Outcome, release func()) *Delivery {
	return &Delivery{Metrics: p.Metrics, Spans: p.Spans, Logs: p.Logs, outcomes: outcomes, release: release}
}

// Finish reports what the sink did with the batch.
func (d *Delivery) Finish(result signal.AppendResult) {
	d.outcomes <- Outcome{Result: result, Known: true}
	d.release()
}

// Discard says that no consumer of this process will use the batch. It
// implements buffer.Discarder.
func (d *Delivery) Discard() {
	d.outcomes <- Outcome{}
	d.release()
}
