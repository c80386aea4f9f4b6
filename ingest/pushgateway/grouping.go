package pushgateway

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/vedette-io/vedette/ingest/exposition"
)

const base64Suffix = "@base64"

// grouping is a grouping key: labels in the order of their names, job among
// them.
type grouping []exposition.Label

// names says which names are allowed and how those in URLs are written.
type names struct {
	valid     model.ValidationScheme
	unescaped model.EscapingScheme
}

func namesOf(utf8Names bool) names {
	if utf8Names {
		return names{model.UTF8Validation, model.ValueEncodingEscaping}
	}
	return names{model.LegacyValidation, model.NoEscaping}
}

// parseGrouping reads a path behind "/metrics/", its escapes undone:
//
//	job[@base64]/<job>{/<label>[@base64]/<value>}
//
// ok is false if the path is none of these at all. As in the original, the last
// of several values of a label counts, the job always being the first.
func (n names) parseGrouping(path string) (_ grouping, ok bool, err error) {
	first, rest, _ := strings.Cut(path, "/")
	encodedJob := first == "job"+base64Suffix
	if !encodedJob && first != "job" || rest == "" {
		return nil, false, nil
	}
	job, rest, more := strings.Cut(rest, "/")
	if encodedJob {
		text := job
		if job, err = decodeBase64(text); err != nil {
			return nil, true, &RequestError{fmt.Sprintf("invalid base64 encoding in job name %q: %v", text, err)}
		}
	}
	byName := map[string]string{}
	if more && rest != "" {
		if err := n.parseLabels(rest, byName); err != nil {
			return nil, true, err
		}
	}
	if job == "" {
		return nil, true, &RequestError{"job name is required"}
	}
	byName[model.JobLabel] = job
	key := make(grouping, 0, len(byName))
	for name, value := range byName {
		if !utf8.ValidString(value) {
			return nil, true, &RequestError{fmt.Sprintf("improper value of label %q: %q is not valid UTF-8", name, value)}
		}
		key = append(key, exposition.Label{Name: name, Value: value})
	}
	slices.SortFunc(key, func(a, b exposition.Label) int { return strings.Compare(a.Name, b.Name) })
	return key, true, nil
}

// parseLabels adds the labels in a path of names and values.
func (n names) parseLabels(path string, byName map[string]string) error {
	parts := strings.Split(path, "/")
	if len(parts)%2 != 0 {
		return &RequestError{fmt.Sprintf("odd number of components in label string %q", "/"+path)}
	}
	for i := 0; i < len(parts); i += 2 {
		text, encoded := strings.CutSuffix(parts[i], base64Suffix)
		name, value := model.UnescapeName(text, n.unescaped), parts[i+1]
		if !n.valid.IsValidLabelName(name) || strings.HasPrefix(text, model.ReservedLabelPrefix) || strings.HasPrefix(name, model.ReservedLabelPrefix) {
			return &RequestError{fmt.Sprintf("improper label name %q", text)}
		}
		if encoded {
			var err error
			if value, err = decodeBase64(parts[i+1]); err != nil {
				return &RequestError{fmt.Sprintf("invalid base64 encoding for label %s=%q: %v", text, parts[i+1], err)}
			}
		}
		byName[name] = value
	}
	return nil
}

// decodeBase64 decodes base64 for URLs; padding may be there or not.
func decodeBase64(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	return string(b), err
}

// job returns the value of the job label.
func (k grouping) job() string {
	for _, l := range k {
		if l.Name == model.JobLabel {
			return l.Value
		}
	}
	return ""
}

// id returns a text that no other grouping of any tenant has.
func (k grouping) id(tenantID string) string {
	var b strings.Builder
	b.WriteString(tenantID)
	for _, l := range k {
		// Neither is part of valid UTF-8.
		b.WriteByte(0xff)
		b.WriteString(l.Name)
		b.WriteByte(0xfe)
		b.WriteString(l.Value)
	}
	return b.String()
}
