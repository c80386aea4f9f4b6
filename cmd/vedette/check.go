package main

import "fmt"

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
