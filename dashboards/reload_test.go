package dashboards

import (
	"errors"
	"strings"
	"testing"
)

func TestReload(t *testing.T) {
	var broken error
	reloads := 0
	_, web := start(t, parts{Auth: newTokens(), Reload: func() error { reloads++; return broken }})
	f := func(token string, want int, text string) {
		t.Helper()
		resp, answer := (call{method: "POST", path: "/-/reload", token: token}).do(t, web.URL)
		if resp.StatusCode != want || !strings.Contains(answer, text) {
			t.Errorf("%d %s, want %d %q", resp.StatusCode, answer, want, text)
		}
	}
	f("", 401, "log in")
	f("viewer-token", 403, "it needs operator")
	f("operator-token", 200, "success")
	broken = errors.New(`r.yml:4: rule "A": for`)
	f("operator-token", 422, `nothing is changed: r.yml:4: rule \"A\": for`)
	if reloads != 2 {
		t.Errorf("%d reloads, want 2", reloads)
	}
}
