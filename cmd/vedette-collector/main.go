// Command vedette-collector is an OpenTelemetry Collector with Vedette's
// components: it takes a whole Collector configuration, where vedette collect takes
// Vedette's own. vedette collect starts it when it is given the former.
package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/httpprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/otelcol"

	"github.com/vedette-io/vedette/internal/footprint"
)

func main() {
	_, _ = footprint.Drop() // what 850 packages have run through before main
	stop := footprint.Keep(slog.New(slog.DiscardHandler))
	defer stop()
	if !execute(os.Args[1:], os.Stderr) {
		stop()
		os.Exit(1)
	}
}

// execute runs the command, and says what is wrong, each fault in a line.
func execute(args []string, stderr io.Writer) bool {
	root := otelcol.NewCommand(settings())
	root.SilenceErrors = true
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return true
	}
	if cmd.Name() != "validate" && !isOfConfig(err) {
		fmt.Fprintln(stderr, err)
		return false
	}
	file := ""
	if f := cmd.Flags().Lookup("config"); f != nil {
		file = strings.Trim(f.Value.String(), "[]")
	}
	for _, line := range explain(err) {
		if file != "" {
			line = file + ": " + line
		}
		fmt.Fprintln(stderr, line)
	}
	return false
}

// settings are what the command is made of.
func settings() otelcol.CollectorSettings {
	return otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "vedette-collector", Description: "OpenTelemetry Collector with Vedette's components", Version: version()},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			ProviderFactories: []confmap.ProviderFactory{
				envprovider.NewFactory(), fileprovider.NewFactory(), httpprovider.NewFactory(), yamlprovider.NewFactory(),
			},
			DefaultScheme: "env",
		}},
	}
}

// version is what the build knows of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}
