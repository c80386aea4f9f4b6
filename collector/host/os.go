package host

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

func openOS(s *sources) func(*batch) error {
	var r reader
	keys := []string{
		"build_id", "id", "id_like", "image_id", "image_version", "name", "pretty_name",
		"variant", "variant_id", "version", "version_codename", "version_id",
	}
	info := gauge("node_os_info", "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, name, "+
		"pretty_name, variant, variant_id, version, version_codename, version_id.", keys...)
	version := gauge("node_os_version", "Metric containing the major.minor part of the OS version.", "id", "id_like", "name")
	end := gauge("node_os_support_end_timestamp_seconds", "Metric containing the end-of-life date timestamp of the OS.")
	return func(b *batch) error {
		text, err := r.read(s.root("etc/os-release"))
		if errors.Is(err, fs.ErrNotExist) {
			text, err = r.read(s.root("usr/lib/os-release"))
		}
		if err != nil {
			return absent(err)
		}
		release := parseRelease(string(text))
		values := make([]string, len(keys))
		for i, key := range keys {
			values[i] = release[strings.ToUpper(key)]
		}
		b.add(info, 1, values...)
		if v, ok := majorMinor(release["VERSION_ID"]); ok {
			b.add(version, v, release["ID"], release["ID_LIKE"], release["NAME"])
		}
		if t, err := time.Parse(time.DateOnly, release["SUPPORT_END"]); err == nil {
			b.add(end, float64(t.Unix()))
		}
		return nil
	}
}

// parseRelease reads os-release(5): assignments as a shell reads them.
func parseRelease(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			quote := value[0]
			if value = value[1 : len(value)-1]; quote == '"' {
				value = strings.NewReplacer(`\"`, `"`, `\$`, `$`, `\\`, `\`, "\\`", "`").Replace(value)
			}
		}
		out[key] = value
	}
	return out
}

// majorMinor returns 20.04 of 20.04.2.
func majorMinor(version string) (float64, bool) {
	parts := strings.SplitN(version, ".", 3)
	v, err := strconv.ParseFloat(strings.Join(parts[:min(2, len(parts))], "."), 64)
	return v, err == nil && strings.Trim(version, "0123456789.") == ""
}
