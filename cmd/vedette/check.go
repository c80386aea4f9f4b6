package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/tlsclient"
)

// checkConfigCmd reads a file and says what is wrong with it.
type checkConfigCmd struct {
	File string `arg:"" help:"Configuration file." type:"path"`
}

// Help is the second half of the command's help.
func (checkConfigCmd) Help() string {
	return `Prints every fault with file, line and key, and exits with 1 if there is one. The keys are documented in docs/configuration.md.`
}

// Run prints the verdict.
func (c checkConfigCmd) Run(s streams) error {
	if isCollectorConfig(c.File) {
		return becomeCollector("validate", "--config", c.File)
	}
	l, err := loadConfig(c.File)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return exitError(exitFault)
	}
	if missing := l.unreadable(); len(missing) > 0 {
		fmt.Fprintln(s.err, missing)
		return exitError(exitFault)
	}
	scrape, err := l.scrapeConfig(l.HTTP.Listen)
	if err != nil {
		return err
	}
	jobs, err := scrape.GetScrapeConfigs()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s is valid; scrape jobs: %d\n", c.File, len(jobs))
	return err
}

// unreadable says which files that start would read cannot be: certificates and keys
// of connections, for secrets have been read with the configuration.
func (l *loaded) unreadable() config.Problems {
	var faults config.Problems
	read := func(section string, f tlsclient.Files) {
		if _, err := tlsclient.New(f); err != nil {
			named := errors.New(strings.TrimPrefix(err.Error(), "read "))
			faults = append(faults, config.Faults(l.file, []byte(l.text), section, named)...)
		}
	}
	if t := l.Forward.TLS; l.Forward.Endpoint != "" {
		read("forward", tlsclient.Files{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile})
	}
	if t := l.Forward.Kafka.TLS; l.Forward.ToKafka() && t.Enabled {
		read("forward.kafka", tlsclient.Files{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile})
	}
	if t := l.Buffer.Kafka.TLS; l.Buffer.Kind == bufferKafka && t.Enabled {
		read("buffer.kafka", tlsclient.Files{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile})
	}
	slices.SortStableFunc(faults, func(a, b config.Problem) int { return cmp.Compare(a.Line, b.Line) })
	return faults
}
