package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bramble/collector/registry"
	"bramble/storage/statedb"
)

// plain are columns of the state whose bytes a backup may show: hashes, Alertmanager's records, and texts that stand in files.
var plain = []string{
	"enrol_token.secret", "api_token.secret", "session.id", "customer_refusal.address",
	"alert_notified.entry", "alert_thread.entry", "alert_silence.entry", "oncall_file.text",
}

// TestEveryKeyOfTheStateIsSealed fails for a new column of bytes until it is one that copies leave out, as they do all
// keys, or stands among the others.
func TestEveryKeyOfTheStateIsSealed(t *testing.T) {
	db, err := registry.OpenDB(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := statedb.Migrate(t.Context(), db, schemas(), statedb.Upgrade{}); err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(t.Context(), `SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND c.type = 'BLOB'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(name, ".key"):
			keys = append(keys, strings.TrimSuffix(name, ".key"))
		case !slices.Contains(plain, name):
			t.Errorf("column %s holds bytes: is it a secret? Then name it key, and a backup encrypts it; else list it in plain", name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, table := range keys {
		if _, err := db.ExecContext(context.Background(), `INSERT INTO `+table+` (id, key) VALUES (1, ?)`, []byte("the key of "+table)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	got, err := registry.CopyDB(t.Context(), db, path)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) < 2 || len(got) != len(keys) {
		t.Errorf("copied apart: %v, tables of keys: %v", got, keys)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "the key of ") {
		t.Errorf("the copy holds a key in the clear (%v)", err)
	}
}
