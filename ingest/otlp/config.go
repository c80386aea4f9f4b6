package otlp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/otlptranslator"
)

// Delta says what becomes of points with delta temporality.
type Delta string

// Ways to treat delta points.
const (
	DeltaCumulative Delta = "cumulative" // added up: Metrics.Deltas lists the rows
	DeltaNative     Delta = "native"     // stored as they are, with type "unknown"
	DeltaRefuse     Delta = "refuse"     // refused
)

// Config says how OTLP metrics become series. The keys are those of the section
// otlp in Prometheus's configuration, with its defaults, and delta.
type Config struct {
	// PromoteResourceAttributes lists the resource attributes that every series of
	// the resource gets as labels.
	PromoteResourceAttributes []string `yaml:"promote_resource_attributes"`

	// PromoteAllResourceAttributes makes labels of all resource attributes but
	// those in ignore_resource_attributes.
	PromoteAllResourceAttributes bool `yaml:"promote_all_resource_attributes"`

	// IgnoreResourceAttributes lists what promote_all_resource_attributes leaves
	// out.
	IgnoreResourceAttributes []string `yaml:"ignore_resource_attributes"`

	// TranslationStrategy is how names become names of Prometheus:
	// UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes,
	// NoUTF8EscapingWithSuffixes or NoTranslation.
	TranslationStrategy string `yaml:"translation_strategy"`

	// KeepIdentifyingResourceAttributes keeps service.name, service.namespace and
	// service.instance.id as labels of target_info, beside job and instance.
	KeepIdentifyingResourceAttributes bool `yaml:"keep_identifying_resource_attributes"`

	// ConvertHistogramsToNHCB stores explicit histograms as native histograms with
	// custom buckets rather than as classic ones.
	ConvertHistogramsToNHCB bool `yaml:"convert_histograms_to_nhcb"`

	// PromoteScopeMetadata makes labels of the instrumentation scope's name,
	// version, schema URL and attributes.
	PromoteScopeMetadata bool `yaml:"promote_scope_metadata"`

	// LabelNameUnderscoreSanitization puts "key" in front of label names that
	// begin with one underscore, where names are escaped.
	LabelNameUnderscoreSanitization bool `yaml:"label_name_underscore_sanitization"`

	// LabelNamePreserveMultipleUnderscores keeps runs of underscores in label
	// names, where names are escaped.
	LabelNamePreserveMultipleUnderscores bool `yaml:"label_name_preserve_multiple_underscores"`

	// Delta is what becomes of points with delta temporality: cumulative adds them
	// up, native stores them as they are, refuse refuses them as Prometheus does by
	// default.
	Delta Delta `yaml:"delta"`
}

// DefaultConfig returns Prometheus's defaults, with deltas added up.
func DefaultConfig() Config {
	return Config{
		TranslationStrategy:                  string(otlptranslator.UnderscoreEscapingWithSuffixes),
		LabelNameUnderscoreSanitization:      true,
		LabelNamePreserveMultipleUnderscores: true,
		Delta:                                DeltaCumulative,
	}
}

// Validate reports every key with a value that makes no sense.
func (c *Config) Validate() error {
	var errs []error
	strategies := []string{
		string(otlptranslator.UnderscoreEscapingWithSuffixes), string(otlptranslator.UnderscoreEscapingWithoutSuffixes),
		string(otlptranslator.NoUTF8EscapingWithSuffixes), string(otlptranslator.NoTranslation),
	}
	if !slices.Contains(strategies, c.TranslationStrategy) {
		errs = append(errs, fmt.Errorf("translation_strategy: got %q, want one of %s", c.TranslationStrategy, strings.Join(strategies, ", ")))
	}
	if !slices.Contains([]Delta{DeltaCumulative, DeltaNative, DeltaRefuse}, c.Delta) {
		errs = append(errs, fmt.Errorf("delta: got %q, want cumulative, native or refuse", c.Delta))
	}
	if c.PromoteAllResourceAttributes && len(c.PromoteResourceAttributes) > 0 {
		errs = append(errs, errors.New("promote_resource_attributes: want none with promote_all_resource_attributes"))
	}
	if !c.PromoteAllResourceAttributes && len(c.IgnoreResourceAttributes) > 0 {
		errs = append(errs, errors.New("ignore_resource_attributes: want none without promote_all_resource_attributes"))
	}
	errs = append(errs, checkAttributes("promote_resource_attributes", c.PromoteResourceAttributes),
		checkAttributes("ignore_resource_attributes", c.IgnoreResourceAttributes))
	return errors.Join(errs...)
}

func checkAttributes(key string, attributes []string) error {
	var errs []error
	seen := make(map[string]bool, len(attributes))
	for i, a := range attributes {
		switch a = strings.TrimSpace(a); {
		case a == "":
			errs = append(errs, fmt.Errorf("%s[%d]: got an empty name", key, i))
		case seen[a]:
			errs = append(errs, fmt.Errorf("%s[%d]: got %q again", key, i, a))
		}
		seen[a] = true
	}
	return errors.Join(errs...)
}

// settings is a Config made ready.
type settings struct {
	cfg      Config
	utf8     bool // names are not escaped
	promoted map[string]bool
	metrics  otlptranslator.MetricNamer
	labels   otlptranslator.LabelNamer
}

func newSettings(cfg Config) settings {
	strategy := otlptranslator.TranslationStrategyOption(cfg.TranslationStrategy)
	s := settings{
		cfg:      cfg,
		utf8:     !strategy.ShouldEscape(),
		promoted: make(map[string]bool),
		metrics:  otlptranslator.NewMetricNamer("", strategy),
		labels: otlptranslator.LabelNamer{
			UTF8Allowed: !strategy.ShouldEscape(),
			//lint:ignore SA1019 the only way to what Prometheus offers as a setting
			UnderscoreLabelSanitization: cfg.LabelNameUnderscoreSanitization,
			PreserveMultipleUnderscores: cfg.LabelNamePreserveMultipleUnderscores,
		},
	}
	list := cfg.PromoteResourceAttributes
	if cfg.PromoteAllResourceAttributes {
		list = cfg.IgnoreResourceAttributes
	}
	for _, a := range list {
		s.promoted[strings.TrimSpace(a)] = true
	}
	return s
}

// promotes reports whether a resource attribute becomes a label.
func (s *settings) promotes(key []byte) bool {
	return s.promoted[string(key)] != s.cfg.PromoteAllResourceAttributes
}
