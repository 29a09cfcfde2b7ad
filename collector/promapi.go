package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"

	"bramble/pisensor/report"
)

// promAPI answers for the collector itself in Prometheus' API.
type promAPI struct{ app *app }

// handler adds to the store's Prometheus API the routes that ask about the
// collector itself: /api/v1/metadata, status/config and status/runtimeinfo.
func (p promAPI) handler(series http.Handler) http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/prometheus"} { // vmui asks below the second one
		mux.HandleFunc("GET "+prefix+"/api/v1/metadata", p.serveMetadata)
		mux.HandleFunc("GET "+prefix+"/api/v1/status/config", serveNoConfig)
		mux.HandleFunc("GET "+prefix+"/api/v1/status/runtimeinfo", p.serveRuntimeInfo)
	}
	mux.Handle("/", series)
	return mux
}

func promData(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}) // the client went away
}

func promRefuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "bad_data", "error": err.Error()})
}

// serveNoConfig answers as a VictoriaMetrics that scrapes nothing.
func serveNoConfig(w http.ResponseWriter, _ *http.Request) {
	promData(w, map[string]string{"yaml": ""})
}

// metadata is one entry of /api/v1/metadata.
type metadata struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// ingestMetadata are the series that ingest makes of a board, beside those of its readings.
var ingestMetadata = map[string]metadata{
	"pi_board_up":          {"gauge", "1 while the board reports, 0 while it is silent or has stopped.", ""},
	"pi_boot_time_seconds": {"gauge", "Unix time of the boot by the collector's clock: setting the board's own does not move it.", "seconds"},
	"pi_boots_total":       {"counter", "How often the board has booted since the collector first saw it, by its boot id.", ""},
	"pi_info":              {"gauge", "1, with the board's facts as labels: model, revision, kernel, firmware, system, version of the sensor.", ""},
}

// metadata returns that of all series that the collector itself stores, by name.
func (p promAPI) metadata() (map[string]metadata, error) {
	all := map[string]metadata{}
	for _, name := range report.SeriesNames() {
		m, _ := report.MeaningOf(name)
		kind := "gauge"
		if report.IsCounter(name) {
			kind = "counter"
		}
		all[name] = metadata{kind, m.Help, m.Unit}
	}
	for name, m := range ingestMetadata {
		all[name] = m
	}
	families, err := p.app.metrics.Gather()
	if err != nil {
		return nil, err
	}
	for _, f := range families {
		if !isOwn(f.GetName()) {
			continue
		}
		kind := "gauge"
		if f.GetType() == dto.MetricType_COUNTER {
			kind = "counter"
		}
		all[f.GetName()] = metadata{kind, f.GetHelp(), ""}
	}
	return all, nil
}

// serveMetadata answers with the parameters of Prometheus': limit, limit_per_metric and metric.
func (p promAPI) serveMetadata(w http.ResponseWriter, r *http.Request) {
	limit, err := limitParameter(r, "limit")
	if err != nil {
		promRefuse(w, err)
		return
	}
	perMetric, err := limitParameter(r, "limit_per_metric")
	if err != nil {
		promRefuse(w, err)
		return
	}
	all, err := p.metadata()
	if err != nil {
		p.app.log.Error("gather metadata", "err", err)
		http.Error(w, "the collector could not answer: see its log", http.StatusInternalServerError)
		return
	}
	wanted, found := r.FormValue("metric"), map[string][]metadata{}
	for name, m := range all {
		if limit >= 0 && len(found) >= limit {
			break
		}
		if (wanted == "" || name == wanted) && perMetric != 0 {
			found[name] = []metadata{m}
		}
	}
	promData(w, found)
}

// limitParameter reads a number of results; -1 stands for all of them.
func limitParameter(r *http.Request, name string) (int, error) {
	text := r.FormValue(name)
	if text == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q: use a number", name, text)
	}
	return n, nil
}

// runtimeInfo has the fields of Prometheus' /api/v1/status/runtimeinfo, by the same names.
type runtimeInfo struct {
	StartTime           time.Time `json:"startTime"`
	CWD                 string    `json:"CWD"`
	Hostname            string    `json:"hostname"`
	ServerTime          time.Time `json:"serverTime"`
	ReloadConfigSuccess bool      `json:"reloadConfigSuccess"`
	LastConfigTime      time.Time `json:"lastConfigTime"`
	CorruptionCount     int64     `json:"corruptionCount"` // always 0: a damaged store does not start
	GoroutineCount      int       `json:"goroutineCount"`
	GOMAXPROCS          int       `json:"GOMAXPROCS"`
	GOMEMLIMIT          int64     `json:"GOMEMLIMIT"`
	GOGC                string    `json:"GOGC"`
	GODEBUG             string    `json:"GODEBUG"`
	StorageRetention    string    `json:"storageRetention"`
}

// processStart is about when this process began.
var processStart = time.Now()

// loading is how the files that a reload reads were last loaded.
type loading struct {
	at time.Time // of the last time that all were sound; of the start where they never were
	ok bool
}

// noteLoading remembers how a start or a reload went.
func (a *app) noteLoading(ok bool) {
	next := loading{time.Now(), ok}
	if last := a.loaded.Load(); last != nil && !ok {
		next.at = last.at
	}
	a.loaded.Store(&next)
}

func (p promAPI) serveRuntimeInfo(w http.ResponseWriter, _ *http.Request) {
	dir, err := os.Getwd()
	if err != nil {
		dir = "<error retrieving current working directory>" // as Prometheus says it
	}
	host, err := os.Hostname()
	if err != nil {
		host = "<error retrieving hostname>"
	}
	info := runtimeInfo{
		StartTime: processStart.UTC(), CWD: dir, Hostname: host, ServerTime: time.Now().UTC(), GoroutineCount: runtime.NumGoroutine(),
		GOMAXPROCS: runtime.GOMAXPROCS(0), GOMEMLIMIT: debug.SetMemoryLimit(-1), GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"),
		StorageRetention: model.Duration(p.app.config.Retention).String(),
	}
	loaded := p.app.loaded.Load()
	info.ReloadConfigSuccess, info.LastConfigTime = loaded.ok, loaded.at.UTC()
	promData(w, info)
}
