package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// brokersWait bounds how long a cluster may lack the brokers for the replicas of new topics. Those
// that have just started or come back are fenced until the controller has heard of them.
const brokersWait = 30 * time.Second

// openTopics learns the cluster's id, creates missing topics and checks those
// that exist. It uses connections of its own, whose view of the cluster is
// never old.
func (b *Buffer) openTopics(ctx context.Context, names []string) error {
	transport := newTransport(&b.cfg, names, 50*time.Millisecond, b.brokers)
	defer transport.CloseIdleConnections()
	admin := &kafkago.Client{Addr: b.client.Addr, Transport: transport, Timeout: 10 * time.Second}

	kafkaNames := make([]string, len(names))
	for i, name := range names {
		if !validName(name) {
			return fmt.Errorf("open topic: got name %q, want letters, digits, '.', '_' or '-'", name)
		}
		kafkaNames[i] = b.cfg.Topics.Prefix + name
	}
	meta, err := b.metadata(ctx, admin, kafkaNames)
	if err != nil {
		return err
	}
	b.source = "kafka/" + meta.ClusterID
	if b.cfg.Topics.Prefix != "" {
		b.source += "/" + b.cfg.Topics.Prefix
	}
	var missing []string
	for i := range meta.Topics {
		if errors.Is(meta.Topics[i].Error, kafkago.UnknownTopicOrPartition) {
			missing = append(missing, names[i])
		}
	}
	if err := b.createTopics(ctx, admin, missing); err != nil {
		return err
	}
	if meta, err = b.awaitLeaders(ctx, admin, kafkaNames); err != nil {
		return err
	}
	b.maxBatch = b.cfg.Topics.MaxMessageBytes
	for i := range meta.Topics {
		t := &topic{name: names[i], kafka: kafkaNames[i], metrics: b.metrics.topic(names[i]), joined: make(chan struct{}), known: len(meta.Topics[i].Partitions)}
		if t.known > 0 {
			t.partition(b, t.known-1)
		}
		b.topics[t.name] = t
		if want, ok := b.cfg.Topics.Partitions[t.name]; ok && want != t.known {
			b.logger.Warn("topic has another number of partitions than configured; its own is used",
				"topic", t.kafka, "partitions", t.known, "configured", want)
		}
	}
	for _, broker := range meta.Brokers {
		b.brokers.learn(net.JoinHostPort(broker.Host, strconv.Itoa(broker.Port)))
	}
	b.checkSettings(ctx, admin, meta)
	if b.MaxRecordBytes() < 1 {
		return fmt.Errorf("open topics: max.message.bytes is %d, want %d or more", b.maxBatch, minMessageBytes)
	}
	return nil
}

// metadata asks until Kafka answers or ctx ends. A broker that refuses the
// credentials does so for good.
func (b *Buffer) metadata(ctx context.Context, admin *kafkago.Client, names []string) (*kafkago.MetadataResponse, error) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		meta, err := admin.Metadata(ctx, &kafkago.MetadataRequest{Topics: names})
		if err == nil && len(meta.Topics) == len(names) {
			return meta, nil
		}
		if err == nil {
			err = fmt.Errorf("got metadata of %d topics, want %d", len(meta.Topics), len(names))
		}
		if isRefusal(err) {
			return nil, err
		}
		if b.warned.group.allow() {
			b.logger.Warn("connect to kafka, trying again", "brokers", b.cfg.Brokers, "err", err)
		}
		if !sleep(ctx, pause) {
			return nil, err
		}
	}
}

// createTopics creates topics with the configured settings. It asks until the cluster
// does or refuses it, or ctx ends: one that is electing a controller takes a moment. That it has
// too few brokers is a refusal only after brokersWait.
func (b *Buffer) createTopics(ctx context.Context, admin *kafkago.Client, names []string) error {
	begin := time.Now()
	for pause := 100 * time.Millisecond; len(names) > 0; pause = min(2*pause, 2*time.Second) {
		var err error
		if names, err = b.createOnce(ctx, admin, names); err == nil {
			continue
		}
		if isRefusal(err) && !(lacksBrokers(err) && time.Since(begin) < brokersWait) {
			return err
		}
		if b.warned.group.allow() {
			b.logger.Warn("create topics, trying again", "err", err)
		}
		if !sleep(ctx, pause) {
			return err
		}
	}
	return nil
}

func lacksBrokers(err error) bool { return errors.Is(err, kafkago.InvalidReplicationFactor) }

// createOnce returns the topics that were not created, with the reason of one of them.
func (b *Buffer) createOnce(ctx context.Context, admin *kafkago.Client, names []string) (left []string, err error) {
	req := &kafkago.CreateTopicsRequest{}
	for _, name := range names {
		c := kafkago.TopicConfig{
			Topic:             b.cfg.Topics.Prefix + name,
			NumPartitions:     b.cfg.Topics.partitions(name),
			ReplicationFactor: b.cfg.Topics.ReplicationFactor,
			ConfigEntries:     b.cfg.Topics.settings(),
		}
		if c.ReplicationFactor == 0 {
			c.ReplicationFactor = -1
		}
		req.Topics = append(req.Topics, c)
	}
	resp, err := admin.CreateTopics(ctx, req)
	if err != nil {
		return names, fmt.Errorf("create topics: %w", err)
	}
	for i, c := range req.Topics {
		e := resp.Errors[c.Topic]
		switch {
		case e == nil:
			b.logger.Info("created topic", "topic", c.Topic, "partitions", c.NumPartitions)
			continue
		case errors.Is(e, kafkago.TopicAlreadyExists):
			continue
		}
		left = append(left, names[i])
		if err == nil || isRefusal(e) && !lacksBrokers(e) {
			err = fmt.Errorf("create topic %s: %w", c.Topic, e)
		}
	}
	return left, err
}

// settings returns what topics are created with, in Kafka's words.
func (t *Topics) settings() []kafkago.ConfigEntry {
	orUnlimited := func(n int64) string {
		if n == 0 {
			n = -1
		}
		return strconv.FormatInt(n, 10)
	}
	entries := []kafkago.ConfigEntry{
		{ConfigName: "cleanup.policy", ConfigValue: "delete"},
		{ConfigName: "retention.ms", ConfigValue: orUnlimited(t.Retention.Time.Milliseconds())},
		{ConfigName: "retention.bytes", ConfigValue: orUnlimited(t.Retention.Bytes)},
		{ConfigName: "max.message.bytes", ConfigValue: strconv.FormatInt(t.MaxMessageBytes, 10)},
		{ConfigName: "compression.type", ConfigValue: "producer"},
	}
	if t.ReplicationFactor >= 3 {
		entries = append(entries, kafkago.ConfigEntry{ConfigName: "min.insync.replicas", ConfigValue: "2"})
	}
	return entries
}

// awaitLeaders waits until every partition has a leader.
func (b *Buffer) awaitLeaders(ctx context.Context, admin *kafkago.Client, names []string) (*kafkago.MetadataResponse, error) {
	begin := time.Now()
	for pause := 20 * time.Millisecond; ; pause = min(pause+pause/8, time.Second) {
		meta, err := b.metadata(ctx, admin, names)
		if err != nil {
			return nil, err
		}
		if err = leaderless(meta); err == nil {
			return meta, nil
		}
		if isRefusal(err) {
			return nil, err
		}
		if time.Since(begin) > warnInterval && b.warned.group.allow() {
			b.logger.Warn("wait for topics and their leaders", "err", err)
		}
		if !sleep(ctx, pause) {
			return nil, err
		}
	}
}

func leaderless(meta *kafkago.MetadataResponse) error {
	for i := range meta.Topics {
		t := &meta.Topics[i]
		if t.Error != nil {
			return fmt.Errorf("open topic %s: %w", t.Name, t.Error)
		}
		if len(t.Partitions) == 0 {
			return fmt.Errorf("open topic %s: it has no partitions", t.Name)
		}
		for _, p := range t.Partitions {
			if p.Error != nil {
				return fmt.Errorf("open topic %s, partition %d: %w", t.Name, p.ID, p.Error)
			}
		}
	}
	return nil
}

// checkSettings lowers maxBatch to what the topics take, and warns of topics that lose what
// was acknowledged with a single broker of several.
func (b *Buffer) checkSettings(ctx context.Context, admin *kafkago.Client, meta *kafkago.MetadataResponse) {
	const sizes, replicas = "max.message.bytes", "min.insync.replicas"
	req := &kafkago.DescribeConfigsRequest{}
	copies := map[string]int{} // of the partition that has the fewest
	for i := range meta.Topics {
		t := &meta.Topics[i]
		for _, p := range t.Partitions {
			if n, ok := copies[t.Name]; !ok || len(p.Replicas) < n {
				copies[t.Name] = len(p.Replicas)
			}
		}
		req.Resources = append(req.Resources, kafkago.DescribeConfigRequestResource{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: t.Name, ConfigNames: []string{sizes, replicas},
		})
	}
	resp, err := admin.DescribeConfigs(ctx, req)
	if err != nil {
		b.logger.Warn("read the settings of topics; max_message_bytes is taken as it stands", "err", err)
		return
	}
	for _, r := range resp.Resources {
		if r.Error != nil {
			b.logger.Warn("read the settings of a topic; max_message_bytes is taken as it stands", "topic", r.ResourceName, "err", r.Error)
		}
		for _, e := range r.ConfigEntries {
			n, err := strconv.ParseInt(e.ConfigValue, 10, 64)
			switch {
			case err != nil:
			case e.ConfigName == sizes:
				if n < b.cfg.Topics.MaxMessageBytes {
					b.logger.Warn("topic takes smaller record batches than configured; its own limit is used",
						"topic", r.ResourceName, sizes, n, "configured", b.cfg.Topics.MaxMessageBytes)
				}
				b.maxBatch = min(b.maxBatch, n)
			case e.ConfigName == replicas && len(meta.Brokers) > 1 && (n < 2 || copies[r.ResourceName] < 2):
				b.logger.Warn("what is acknowledged may be on one broker alone, and lost with it; want 3 replicas of which 2 have to be in sync",
					"topic", r.ResourceName, "replicas", copies[r.ResourceName], replicas, n)
			}
		}
	}
}
