package main

import (
	"context"
	"io"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/maintenance"
	"bramble/alerting/rehearse"
	"bramble/collector/admin"
	"bramble/collector/backup"
	"bramble/collector/broker"
	"bramble/collector/config"
	"bramble/collector/registry"
)

// runAdmin runs a command that shows or changes state, inside the collector
// that holds the data directory, or here while none does.
func runAdmin(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	dir, args, err := admin.DataDir(args, config.Default.DataDir)
	if err != nil {
		return err
	}
	return admin.Dispatch(ctx, dir, args, stdin, stdout, stderr, func() (admin.State, func(), error) {
		return openOffline(ctx, dir)
	})
}

// openOffline opens the commands' sources. The caller holds the directory's lock.
func openOffline(ctx context.Context, dir string) (admin.State, func(), error) {
	if err := backup.Unfinished(dir); err != nil {
		return admin.State{}, nil, err
	}
	pin, err := broker.PinOf(dir)
	if err != nil {
		return admin.State{}, nil, err
	}
	db, err := openStateOffline(ctx, dir)
	if err != nil {
		return admin.State{}, nil, err
	}
	r, err := registry.Open(ctx, db)
	if err == nil {
		err = explainDamage(ctx, config.Config{DataDir: dir}, checkChanges(dir, r))
	}
	if err != nil {
		db.Close()
		return admin.State{}, nil, err
	}
	book, err := maintenance.Open(ctx, db, func() map[string]alert.Place { return placesOf(r) })
	if err != nil {
		db.Close()
		return admin.State{}, nil, err
	}
	return admin.State{Registry: r, DB: db, Pin: pin, Maintenances: book}, func() { db.Close() }, nil
}

// adminState lets the commands into the running collector.
func (a *app) adminState() admin.State {
	report := func(board string) (string, time.Time) {
		s := a.ingest.Status()[board]
		return s.State, s.LastReport
	}
	return admin.State{Registry: a.registry, DB: a.db, Pin: a.broker.Pin(), Disconnect: a.broker.Disconnect, Relabel: a.ingest.Relabel, Backups: a.backups, Maintenances: a.pager.Maintenances(),
		Report: report,
		Rehearse: func(ctx context.Context, q admin.RehearseRequest) (*rehearse.Rehearsal, error) {
			return rehearseStored(ctx, a.store, placesOf(a.registry), q)
		}}
}
