package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"bramble/storage"
	"bramble/storage/series"
)

// seriesStore is the store that is configured: *storage.Store in the data
// directory, or *storage.Remote by URL.
type seriesStore interface {
	Add(rows []storage.Row) error
	Record(samples []series.Sample) error
	Barrier() error
	Query(ctx context.Context, expr string, at time.Time) ([]storage.Result, error)
	storage.RangeQuerier
	Handler() http.Handler
	Close() error
}

// remoteConfig is the `store` block. The zero value is the embedded store.
type remoteConfig struct {
	Write, Read          string // base URLs
	Nodes                []string
	Keep                 time.Duration
	Username             string
	Password, Token      string `file:"secret"`
	CA, Certificate, Key string `file:"secret"`
}

// queueDir is where rows wait for a remote store, in the data directory.
const queueDir = "queue"

// readStore takes over the `store` block.
func (c *Config) readStore(n *yaml.Node) error {
	s := &c.Store
	text := func(to *string) func(*yaml.Node) error { return func(n *yaml.Node) error { return n.Decode(to) } }
	return eachKey(n, map[string]func(*yaml.Node) error{
		"write": text(&s.Write), "read": text(&s.Read),
		"nodes":    func(n *yaml.Node) error { return n.Decode(&s.Nodes) },
		"username": text(&s.Username), "password_file": text(&s.Password), "token_file": text(&s.Token),
		"ca_file": text(&s.CA), "cert_file": text(&s.Certificate), "key_file": text(&s.Key),
		"keep": func(n *yaml.Node) error {
			d, err := model.ParseDuration(n.Value)
			s.Keep = time.Duration(d)
			return err
		},
	})
}

// files are the block's paths.
func (s *remoteConfig) files() []*string {
	return []*string{&s.Password, &s.Token, &s.CA, &s.Certificate, &s.Key}
}

func checkStore(s remoteConfig) error {
	var errs []error
	for _, f := range s.files() {
		errs = append(errs, checkFile(*f))
	}
	switch {
	case s.Write == "" && (s.Read != "" || s.Nodes != nil || s.Keep != 0 || s.Username != ""):
		errs = append(errs, errors.New("write is missing: it is the base URL that rows are sent to"))
	case s.Write == "":
		return errors.Join(errs...)
	case (s.Username == "") != (s.Password == ""):
		errs = append(errs, errors.New("username and password_file: set both or neither"))
	case s.Username != "" && s.Token != "":
		errs = append(errs, errors.New("username and token_file exclude each other"))
	case (s.Certificate == "") != (s.Key == ""):
		errs = append(errs, errors.New("cert_file and key_file: set both or neither"))
	}
	if s.Write != "" {
		_, err := s.options().Check()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s remoteConfig) options() storage.RemoteOptions {
	client := promconfig.HTTPClientConfig{
		EnableHTTP2: true,
		TLSConfig:   promconfig.TLSConfig{CAFile: s.CA, CertFile: s.Certificate, KeyFile: s.Key},
	}
	if s.Username != "" {
		client.BasicAuth = &promconfig.BasicAuth{Username: s.Username, PasswordFile: s.Password}
	}
	if s.Token != "" {
		client.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: s.Token}
	}
	return storage.RemoteOptions{Write: s.Write, Read: s.Read, Nodes: s.Nodes, Keep: s.Keep, Client: client}
}

// openStores opens the store that is configured. Rollups are made of an embedded
// one only: a remote one keeps what it is told to keep.
func (a *app) openStores(ctx context.Context) error {
	if a.config.Store.Write == "" {
		return a.openEmbedded(ctx)
	}
	o := a.config.Store.options()
	o.Dir, o.Log, o.Registerer = filepath.Join(a.config.DataDir, queueDir), a.log, a.metrics
	remote, err := storage.OpenRemote(o)
	if err != nil {
		return err
	}
	a.store = remote
	a.defers("store", a.store.Close)
	a.log.Info("series are in a remote store", "write", a.config.Store.Write)
	return nil
}

// keepStores guards the embedded store's disk and rolls its readings up until ctx
// ends. A remote one looks after itself.
func (a *app) keepStores(ctx context.Context) error {
	if a.embedded == nil {
		return nil
	}
	if !a.embedded.IsOpen() {
		a.openLate(ctx)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.embedded.Guard(ctx) })
	g.Go(func() error { return a.rollups.Run(ctx) })
	return g.Wait()
}

// openImporter makes what takes other exporters' rows. What a remote store
// keeps is its own affair.
func openImporter(c Config, store seriesStore, log *slog.Logger, r prometheus.Registerer) (*storage.Importer, error) {
	o := storage.ImportOptions{Store: store, Retention: c.Retention, Log: log, Registerer: r}
	if c.Store.Write != "" {
		o.Retention = 0
	}
	return storage.NewImporter(o)
}

// storeDrops is how old a row is that the store drops in silence; 0 where that is not known here, or older than any
// reading may be.
func (a *app) storeDrops() time.Duration {
	if a.embedded == nil {
		return 0
	}
	return a.config.Retention
}

// readOnly reports whether the collector's own store takes nothing, for want of room on its disk.
func (a *app) readOnly() bool { return a.embedded != nil && a.embedded.ReadOnly() }

// storeErr returns why readings do not reach the store at present, or nil.
func (a *app) storeErr() error {
	if a.embedded != nil && !a.embedded.IsOpen() {
		return storage.ErrNotOpen
	}
	r, ok := a.store.(*storage.Remote)
	if !ok || r.Err() == nil {
		return nil
	}
	return fmt.Errorf("remote store: %w", r.Err())
}
