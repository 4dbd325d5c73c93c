package blocks

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// newMetrics shows how a list stands. No address is a label.
func newMetrics(r prometheus.Registerer, l *List) {
	f := promauto.With(r)
	for source, list := range map[string]func(*Set) []Block{"command": (*Set).Commands, "file": (*Set).File} {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "gatepost_blocks_in_force",
			Help:        "Break-glass blocks in force, by source: command, file.",
			ConstLabels: prometheus.Labels{"source": source}, // command, file
		}, func() float64 {
			n, now := 0, l.now()
			for _, b := range list(l.Set()) {
				if !b.Over(now) {
					n++
				}
			}
			return float64(n)
		})
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatepost_blocks_unsaved",
		Help: "1: the blocks by command are not on the disk and would be lost in a restart.",
	}, func() float64 { return truth(l.State().Unsaved != "") })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatepost_blocks_file_failing",
		Help: "1: the local file of blocks cannot be used; what was read before stays in force.",
	}, func() float64 {
		local := l.State().Local
		return truth(local != nil && local.Error != "")
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatepost_blocks_file_bad_lines",
		Help: "Lines of the local file of blocks that make no sense and block nothing.",
	}, func() float64 {
		if local := l.State().Local; local != nil {
			return float64(local.BadAll)
		}
		return 0
	})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
