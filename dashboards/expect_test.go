package dashboards

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestExpect(t *testing.T) {
	var got []string
	o := parts{
		Auth: newTokens(), Announcements: []string{"reboot", "reinstall"},
		Expect: func(_ context.Context, board, who, what string, within time.Duration) error {
			if board == "nobody" {
				return ErrUnknownBoard
			}
			got = append(got, board+" "+who+" "+what+" "+within.String())
			return nil
		},
	}
	_, web := start(t, o)
	f := func(path, token, body string, want int) {
		t.Helper()
		resp, answer := (call{method: "POST", path: path, token: token, body: body}).do(t, web.URL)
		if resp.StatusCode != want {
			t.Errorf("%s %s: %d %s, want %d", path, body, resp.StatusCode, answer, want)
		}
	}
	f("/api/boards/r1-01/expect", "viewer-token", `{"what":"reboot"}`, 403)
	f("/api/boards/r1-01/expect", "operator-token", `{"what":"reboot"}`, 200)
	f("/api/boards/r1-02/expect", "admin-token", `{"what":"reinstall","within":"1h30m"}`, 200)
	f("/api/boards/nobody/expect", "admin-token", `{"what":"reboot"}`, 404)
	for _, bad := range []string{``, `{`, `{"what":"party"}`, `{"what":"reboot","within":"25h"}`, `{"what":"reboot","within":"-1m"}`, `{"what":"reboot","at":1}`} {
		f("/api/boards/r1-01/expect", "admin-token", bad, 400)
	}
	if diff := cmp.Diff([]string{"r1-01 mira reboot 10m0s", "r1-02 ada reinstall 1h30m0s"}, got); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
}

func FuzzAnnouncement(f *testing.F) {
	f.Add([]byte(`{"what":"reinstall","within":"20m"}`))
	f.Add([]byte(`{"what":"reboot"}`))
	f.Add([]byte(`{"what":"reboot","within":"9999999h"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		what, within, err := decodeAnnouncement(b, []string{"reboot", "reinstall"})
		if err == nil && (what == "" || within <= 0 || within > maxWithin) {
			t.Errorf("%q became %q, %v", b, what, within)
		}
	})
}
