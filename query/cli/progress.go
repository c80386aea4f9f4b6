package cli

import (
	"fmt"
	"io"
	"time"
)

// Progress tells a person that something goes on: a line on a terminal with the
// seconds it has taken, which is wiped away at the end.
type Progress struct {
	Out   io.Writer
	After time.Duration // until the line is first shown
	Every time.Duration // between updates
}

// NewProgress returns a Progress for the terminal out.
func NewProgress(out io.Writer) *Progress {
	return &Progress{Out: out, After: time.Second, Every: 200 * time.Millisecond}
}

// during runs f and shows meanwhile what is being done. A nil Progress runs f
// alone.
func (p *Progress) during(what string, f func() error) error {
	if p == nil {
		return f()
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		p.show(what, end)
	}()
	defer func() {
		close(end)
		<-ended
	}()
	return f()
}

// show updates the line until end is closed.
func (p *Progress) show(what string, end <-chan struct{}) {
	begin := time.Now()
	wait := time.NewTimer(p.After)
	defer wait.Stop()
	for shown := false; ; shown = true {
		select {
		case <-wait.C:
			fmt.Fprintf(p.Out, "\r%s, %.1fs ", what, time.Since(begin).Seconds())
			wait.Reset(p.Every)
		case <-end:
			if shown {
				fmt.Fprint(p.Out, "\r\x1b[K")
			}
			return
		}
	}
}
