package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// SetAside describes a message that could not be decoded. The partition went on
// without it.
type SetAside struct {
	Topic     string        `json:"topic"`
	Partition int           `json:"partition"`
	Offset    int64         `json:"offset"`
	Tenant    string        `json:"tenant"`
	Format    buffer.Format `json:"format"`
	SizeBytes int           `json:"size_bytes"`
	Time      time.Time     `json:"time"` // at which it was found
	Error     string        `json:"error"`
	File      string        `json:"file,omitempty"` // that holds the payload
}

// maxSetAside bounds the files below SetAsideDir and what is remembered.
const maxSetAside = 100

// SetAside returns the messages that this process has set aside, the oldest
// first; of very many it knows the newest.
func (c *Consumer) SetAside() []SetAside {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.aside)
}

// ServeSetAside answers with what the consumers have set aside, as JSON.
func ServeSetAside(consumers ...*Consumer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		list := []SetAside{}
		for _, c := range consumers {
			list = append(list, c.SetAside()...)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"messages": list}) // the client has gone
	})
}

// setAside keeps a payload that cannot be decoded for a person to look at.
func (c *Consumer) setAside(topic string, partition int, m *buffer.Message, cause error) {
	c.metrics.setAside.Inc()
	a := SetAside{
		Topic: topic, Partition: partition, Offset: m.Offset, Tenant: m.Tenant, Format: m.Format,
		SizeBytes: len(m.Payload), Time: time.Now(), Error: cause.Error(),
	}
	if c.cfg.SetAsideDir != "" {
		var err error
		if a.File, err = c.writeAside(&a, m.Payload); err != nil {
			c.log.Error("write payload aside", "err", err)
		}
	}
	c.mu.Lock()
	if len(c.aside) == maxSetAside {
		c.aside = slices.Delete(c.aside, 0, 1)
	}
	c.aside = append(c.aside, a)
	c.mu.Unlock()
	c.log.Error("set message aside", "topic", topic, "partition", partition, "offset", m.Offset,
		"tenant", m.Tenant, "format", m.Format, "size_bytes", len(m.Payload), "file", a.File, "err", cause)
}

// writeAside writes a payload to a file of its own, unless there are very many.
func (c *Consumer) writeAside(a *SetAside, payload []byte) (string, error) {
	if err := os.MkdirAll(c.cfg.SetAsideDir, 0o755); err != nil {
		return "", err
	}
	have, err := os.ReadDir(c.cfg.SetAsideDir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.cfg.SetAsideDir, fmt.Sprintf("%s-%d-%d.format%d", a.Topic, a.Partition, a.Offset, a.Format))
	if len(have) >= maxSetAside {
		return "", nil
	}
	return path, os.WriteFile(path, payload, 0o644)
}
