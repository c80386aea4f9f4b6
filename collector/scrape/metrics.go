package scrape

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	refused prometheus.Counter
	lost    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_scrape_refused_total",
			Help: "Scraped samples, exemplars and metadata entries that validation or the store refused.",
		}),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_scrape_commit_errors_total",
			Help: "Scrapes, or requests of large ones, that could not be made durable and are lost.",
		}),
	}
}

func registerCache(reg prometheus.Registerer, c *cache) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "vedette_collector_scrape_cached_series",
		Help: "Series whose labels the scraper remembers.",
	}, func() float64 { return float64(c.size()) })
}
