package registry

import (
	"path/filepath"
	"testing"

	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
)

// BenchmarkRackEnrolment is a new board of a rack's token, its commit on the disk included.
func BenchmarkRackEnrolment(b *testing.B) {
	db, err := OpenDB(filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	r, err := Open(b.Context(), db)
	if err != nil {
		b.Fatal(err)
	}
	token, err := r.NewRackToken(b.Context(), "r1", nil, maxRackBoards, pin)
	if err != nil {
		b.Fatal(err)
	}
	keys := make([]string, b.N)
	for i := range keys {
		pair, err := nkeys.CreateUser()
		if err != nil {
			b.Fatal(err)
		}
		if keys[i], err = pair.PublicKey(); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for _, k := range keys {
		if _, err := r.Enrol(b.Context(), report.EnrolRequest{Token: token.Credentials(), Key: k}); err != nil {
			b.Fatal(err)
		}
	}
}
