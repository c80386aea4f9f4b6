package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/internal/vfs"
)

// Kinds of buffers.
const (
	bufferEmbedded = "embedded"
	bufferKafka    = "kafka"
)

// BufferConfig says where data is durable between the doors and the store.
type BufferConfig struct {
	// Kind is `embedded`, a log of files in the data directory, or `kafka`.
	Kind string `yaml:"kind"`

	// The embedded log.
	buffer.Config `yaml:",inline"`

	// Kafka configures the buffer of kind `kafka`; the keys above are the embedded
	// log's. If consumer.instance_id is empty, the server makes one up and keeps it
	// in the data directory.
	Kafka kafka.Config `yaml:"kafka"`
}

func defaultBufferConfig() BufferConfig {
	return BufferConfig{Kind: bufferEmbedded, Config: buffer.DefaultConfig(), Kafka: kafka.DefaultConfig()}
}

// validate names every bad key of the kind that is used, with the section that
// it is in.
func (c *BufferConfig) validate() (section string, err error) {
	switch c.Kind {
	case bufferEmbedded:
		return "buffer", c.Config.Validate()
	case bufferKafka:
		return "buffer.kafka", c.Kafka.Validate()
	}
	return "buffer", fmt.Errorf("kind: got %q, want %q or %q", c.Kind, bufferEmbedded, bufferKafka)
}

// openedBuffer is a buffer and what the door has to know about it.
type openedBuffer struct {
	buffer.Buffer
	positions      buffer.Positions // nil if it remembers none
	recaller       buffer.Recaller  // nil if it does not look for them
	maxRecordBytes int
	compresses     bool

	// joined returns ingest.ConsumerOptions.Joined for a topic.
	joined func(topic string) func(context.Context) (int, error)
}

// openBuffer opens the buffer that the configuration asks for.
func (s *server) openBuffer(ctx context.Context) (openedBuffer, error) {
	c := &s.config.Buffer
	logger := s.logger.With("part", "buffer")
	if c.Kind == bufferKafka {
		if c.Kafka.Consumer.InstanceID == "" {
			var err error
			if c.Kafka.Consumer.InstanceID, err = s.instanceID(); err != nil {
				return openedBuffer{}, err
			}
		}
		b, err := kafka.Open(ctx, c.Kafka, []string{buffer.TopicMetrics, buffer.TopicTraces, buffer.TopicLogs}, logger, s.registry)
		if err != nil {
			return openedBuffer{}, err
		}
		joined := func(topic string) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) { return b.Joined(ctx, topic) }
		}
		return openedBuffer{Buffer: b, recaller: b, maxRecordBytes: int(b.MaxRecordBytes()), compresses: true, joined: joined}, nil
	}
	b, err := buffer.Open(c.Config, vfs.OS, s.path(bufferDir), logger, s.registry)
	if err != nil {
		return openedBuffer{}, err
	}
	alone := func(string) func(context.Context) (int, error) { return nil }
	return openedBuffer{Buffer: b, positions: b, maxRecordBytes: int(c.MaxRecordBytes), joined: alone}, nil
}

// instanceID names this data directory for ever, so that a restarted server is
// known as the one that it was.
func (s *server) instanceID() (string, error) {
	file := s.path(instanceFile)
	text, err := vfs.ReadFile(vfs.OS, file)
	if err == nil {
		if id := strings.TrimSpace(string(text)); id != "" {
			return id, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read instance id: %w", err)
	}
	id := "vedette-" + strings.ToLower(rand.Text())
	err = vfs.OS.MkdirAll(s.config.DataDir)
	if err == nil {
		err = vfs.WriteFile(vfs.OS, file, []byte(id+"\n"))
	}
	if err != nil {
		return "", fmt.Errorf("write instance id: %w", err)
	}
	return id, nil
}
