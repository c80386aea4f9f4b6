package config

import (
	"errors"
	"fmt"
	"testing"
)

func TestFaults(t *testing.T) {
	const doc = "log:\n  format: xml\nstore:\n  window: 1s\n  deep:\n    key: 1\n"
	err := errors.Join(
		fmt.Errorf("window: got 1s, want a minute"),
		errors.Join(errors.New("deep.key: is odd"), errors.New("retention: is short")),
		errors.New("the whole makes no sense"),
	)
	const want = `f.yml:4: store.window: got 1s, want a minute
f.yml:6: store.deep.key: is odd
f.yml:3: store.retention: is short
f.yml:3: store: the whole makes no sense`
	if got := Faults("f.yml", []byte(doc), "store", err); got.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := Faults("f.yml", []byte(doc), "buffer", errors.New("sync: is odd")); got.Error() != "f.yml: buffer.sync: is odd" {
		t.Errorf("key that the file does not give: got %s", got)
	}
	const lists = "collect:\n  dns:\n    ports: []\n  sources:\n    - format: a\n    - include: [x]\n      format: b\n"
	sections := errors.Join(
		fmt.Errorf("dns: %w", errors.Join(errors.New("ports: got 0, want 1"))),
		fmt.Errorf("sec.%w", fmt.Errorf("deep: %w", errors.Join(errors.New("a: is odd"), errors.New("makes no sense")))),
		fmt.Errorf("dns: %w and %w", errors.New("one"), errors.New("two")),
		fmt.Errorf("sources[1].format: got %q: %w", "b", errors.New("odd")),
	)
	const wantSections = `f.yml:3: collect.dns.ports: got 0, want 1
f.yml:1: collect.sec.deep.a: is odd
f.yml:1: collect.sec.deep: makes no sense
f.yml:2: collect.dns: one and two
f.yml:7: collect.sources[1].format: got "b": odd`
	if got := Faults("f.yml", []byte(lists), "collect", sections); got.Error() != wantSections {
		t.Errorf("got:\n%s\nwant:\n%s", got, wantSections)
	}
	if got := Faults("f.yml", nil, "buffer", nil); got != nil {
		t.Errorf("nil: got %v", got)
	}
}

func TestExplain(t *testing.T) {
	type inner struct {
		Interval string `yaml:"scrape_interval"`
	}
	type outer struct {
		Inner []*inner `yaml:"inner"`
	}
	for in, want := range map[string]string{
		"yaml: unmarshal errors:\n  line 5: field scrape_intervall not found in type config.inner\n  line 6: field zzzzzzzz not found in type config.inner": "f.yml:5: scrape_intervall: unknown key, did you mean \"scrape_interval\"?\nf.yml:6: zzzzzzzz: unknown key",
		"yaml: unmarshal errors:\n  line 5: field a not found in type elsewhere.T":                                                                          "f.yml:5: a: unknown key",
		"yaml: line 3: found a tab":                              "f.yml:3: found a tab",
		"found multiple scrape configs":                          "f.yml: found multiple scrape configs",
		"yaml: line 2: field a already set in type config.inner": "f.yml:2: a: given twice",
	} {
		if got := Explain("f.yml", errors.New(in), outer{}); got.Error() != want {
			t.Errorf("%s\ngot:  %s\nwant: %s", in, got, want)
		}
	}
	if got := Explain("f.yml", nil, outer{}); got != nil {
		t.Errorf("nil: got %v", got)
	}
}
