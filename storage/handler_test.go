package storage_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/storagetest"
)

func serve(t testing.TB, s *storage.Store) string {
	t.Helper()
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

// twoStores returns the URLs of two stores with one series each: board "mine" 41 and board "other" 42.
func twoStores(t *testing.T) (mine, other string, now time.Time) {
	t.Helper()
	now = storagetest.AnHourAgo()
	var urls []string
	for i, board := range []string{"mine", "other"} {
		s := storagetest.Open(t, t.TempDir(), storage.Options{})
		storagetest.Add(t, s, []storage.Row{{Series: storagetest.Temperature(board), At: now.UnixMilli(), Value: float64(41 + i)}})
		urls = append(urls, serve(t, s))
	}
	return urls[0], urls[1], now
}

func TestHTTPRoutesAnswerFromTheirOwnStore(t *testing.T) {
	mine, _, now := twoStores(t)
	span := "start=" + strconv.FormatInt(now.Unix()-60, 10) + "&end=" + strconv.FormatInt(now.Unix()+60, 10)
	at := "time=" + strconv.FormatInt(now.Unix(), 10)
	match := "match[]=" + url.QueryEscape(`{__name__=~".+"}`)
	for path, want := range map[string]string{
		"/api/v1/query?query=pi_soc_temperature_celsius&" + at:                   `"41"`,
		"/api/v1/query?query=count(pi_soc_temperature_celsius)&" + at:            `"1"`,
		"/api/v1/query_range?query=pi_soc_temperature_celsius&step=60s&" + span:  `"41"`,
		"/api/v1/series?" + match + "&" + span:                                   `"board":"mine"`,
		"/api/v1/labels?" + span:                                                 `["__name__","board","rack"]`,
		"/api/v1/label/board/values?" + span:                                     `["mine"]`,
		"/api/v1/export?" + match + "&" + span:                                   `"values":[41]`,
		"/api/v1/export/csv?format=board,__value__&" + match + "&" + span:        `mine,41`,
		"/api/v1/series/count":                                                   `"data":[1]`,
		"/api/v1/metadata":                                                       `"success"`,
		"/api/v1/query_exemplars?query=a":                                        `{"status":"success","data":[]}`,
		"/api/v1/status/tsdb?date=" + now.UTC().Format(time.DateOnly):            `"totalSeries":1`,
		"/api/v1/status/buildinfo":                                               `"version"`,
		"/api/v1/status/active_queries":                                          `"ok"`,
		"/api/v1/status/top_queries":                                             `"topByCount"`,
		"/prettify-query?query=a%2Bb":                                            `a + b`,
		"/prometheus/api/v1/query?query=pi_soc_temperature_celsius&" + at:        `"41"`,
		"/prometheus/api/v1/status/tsdb?date=" + now.UTC().Format(time.DateOnly): `"totalSeries":1`,
	} {
		status, _, body := storagetest.Get(t, mine+path)
		if status != http.StatusOK || !strings.Contains(body, want) || strings.Contains(body, "other") {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
}

func TestHTTPRefusesWhatChangesOrIsUnknown(t *testing.T) {
	mine, _, now := twoStores(t)
	for _, path := range []string{
		"/api/v1/admin/tsdb/delete_series?match[]=pi_soc_temperature_celsius", "/api/v1/admin/tsdb/snapshot", "/api/v1/write",
		"/api/v1/import", "/api/v1/export/native?match[]=pi_soc_temperature_celsius", "/internal/resetRollupResultCache",
		"/internal/force_flush", "/snapshot/create", "/tags/delSeries", "/metrics", "/federate", "/flags", "/",
		"/api/v1/label/a/b/values", "/target-relabel-debug", "/api/v1/rules",
		"/prometheus/api/v1/admin/tsdb/delete_series?match[]=pi_soc_temperature_celsius",
	} {
		if status, _, _ := storagetest.Read(t)(http.Post(mine+path, "application/x-www-form-urlencoded", nil)); status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, status)
		}
	}
	request, err := http.NewRequest(http.MethodDelete, mine+"/api/v1/series", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, _ := storagetest.Read(t)(http.DefaultClient.Do(request)); status != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", status)
	}
	_, _, body := storagetest.Get(t, mine+"/api/v1/query?query=count(pi_soc_temperature_celsius)&time="+strconv.FormatInt(now.Unix(), 10))
	if !strings.Contains(body, `"1"`) {
		t.Errorf("the series is gone: %s", body)
	}
}

func TestHTTPPicksNoOtherStore(t *testing.T) {
	mine, _, now := twoStores(t)
	for _, other := range []string{"__bramble_store__=1", "__bramble_store__=9999"} {
		_, _, body := storagetest.Get(t, mine+"/api/v1/query?query=pi_soc_temperature_celsius&time="+strconv.FormatInt(now.Unix(), 10)+"&extra_label="+other)
		if !strings.Contains(body, `"error"`) {
			t.Errorf("%s: %s", other, body)
		}
	}
}

func TestExplorerIsServedWholly(t *testing.T) {
	mine, _, _ := twoStores(t)
	status, kind, page := storagetest.Get(t, mine+"/vmui/")
	if status != http.StatusOK || !strings.HasPrefix(kind, "text/html") {
		t.Fatalf("%d %s", status, kind)
	}
	files := regexp.MustCompile(`(?:src|href)="\./([^"]+)"`).FindAllStringSubmatch(page, -1)
	scripts := 0
	for _, f := range files {
		status, kind, body := storagetest.Get(t, mine+"/vmui/"+f[1])
		if status != http.StatusOK || body == "" {
			t.Errorf("%s: %d", f[1], status)
		}
		if strings.HasSuffix(f[1], ".js") && strings.Contains(kind, "javascript") {
			scripts++
		}
	}
	if scripts < 3 {
		t.Errorf("%d scripts among %v", scripts, files)
	}
	for path, want := range map[string]string{
		"/vmui/config.json": `"license"`, "/vmui/custom-dashboards": `"dashboardsSettings"`, "/vmui/timezone": `"timezone"`,
	} {
		if status, _, body := storagetest.Get(t, mine+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _, _ := storagetest.Get(t, mine+"/vmui"); status != http.StatusOK { // after the redirect
		t.Errorf("/vmui: %d", status)
	}
}

func TestHTTPAfterClose(t *testing.T) {
	s := storagetest.Open(t, t.TempDir(), storage.Options{})
	base := serve(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if status, _, body := storagetest.Get(t, base+"/api/v1/query?query=1"); status != http.StatusServiceUnavailable || !strings.Contains(body, "closed") {
		t.Fatalf("%d %s", status, body)
	}
}
