package alerting

import (
	"context"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/common/version"
)

// alertAPI is Alertmanager's HTTP API. It is made for the first request: the description of itself that it loads takes an
// eighth of a start's time, and 5 MB of memory for good. A configuration comes before the first request.
type alertAPI struct {
	options api.Options

	mu      sync.Mutex
	api     *api.API // nil before the first request
	handler http.Handler
	config  *config.Config
	status  func(context.Context, model.LabelSet)
}

// update puts a configuration in force, and a function that marks alerts of which the status is asked.
func (a *alertAPI) update(c *config.Config, status func(context.Context, model.LabelSet)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.config, a.status = c, status
	if a.api != nil {
		a.api.Update(c, status)
	}
}

func (a *alertAPI) open() (http.Handler, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.api != nil {
		return a.handler, nil
	}
	nameAlertmanager()
	made, err := api.New(a.options)
	if err != nil {
		return nil, err
	}
	made.Update(a.config, a.status)
	a.api, a.handler = made, made.Register(route.New(), "/")
	return a.handler, nil
}

func (a *alertAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, err := a.open()
	if err != nil {
		a.options.Logger.Error("open alert API", "err", err)
		http.Error(w, "the alert API cannot be opened: the collector's log says why", http.StatusInternalServerError)
		return
	}
	h.ServeHTTP(w, r)
}

// nameAlertmanager sets the version that the API states, and that amtool
// compares with its own, to that of the Alertmanager whose packages are linked.
// The variable is the process's.
var nameAlertmanager = sync.OnceFunc(func() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/prometheus/alertmanager" {
			version.Version = strings.TrimPrefix(m.Version, "v")
		}
	}
})
