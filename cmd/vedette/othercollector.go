package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// collectorBinary is the OpenTelemetry Collector with Vedette's components, an
// executable of its own so that this one links none of it.
const collectorBinary = "vedette-collector"

// isCollectorConfig says whether a file is a configuration of the OpenTelemetry
// Collector. A file that cannot be read, or that is no YAML, is left to those who
// say what is wrong with it.
func isCollectorConfig(file string) bool {
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	var top map[string]yaml.Node
	if yaml.Unmarshal(data, &top) != nil {
		return false
	}
	_, service := top["service"]
	_, receivers := top["receivers"]
	return service && receivers
}

// becomeCollector replaces this process by the Collector with these arguments. It
// returns only if that fails.
func becomeCollector(args ...string) error {
	path, err := findCollector()
	if err != nil {
		return err
	}
	if err := syscall.Exec(path, append([]string{collectorBinary}, args...), os.Environ()); err != nil {
		return fmt.Errorf("start %s: %w", path, err)
	}
	return nil
}

// findCollector looks beside this executable, then in the path.
func findCollector() (string, error) {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), collectorBinary)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	path, err := exec.LookPath(collectorBinary)
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("the file is a configuration of the OpenTelemetry Collector, which wants %s beside this executable or in the path: make collector builds it", collectorBinary)
	}
	return path, err
}
