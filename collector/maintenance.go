package main

import (
	"context"
	"sync"
	"time"

	"bramble/alerting"
	"bramble/collector/registry"
	"bramble/dashboards"
)

// registered says where the boards of the registry stand; whether they report does not count.
func registered(r *registry.Registry) map[string]alerting.Place {
	now := time.Now().UnixMilli()
	all := map[string]alerting.Place{}
	for _, b := range r.Boards() {
		if !b.Retired {
			all[b.Name] = alerting.Place{Labels: registry.Map(b.At(now))}
		}
	}
	return all
}

// placesAge is how old the list of places may be that silences and maintenances are counted by: labels may begin to hold
// without a change of the registry.
const placesAge = 2 * time.Second

// placeCache keeps registered from being asked for every silence of every browser. The zero value is empty. The maps that
// it returns are shared: nobody changes them.
type placeCache struct {
	mu         sync.Mutex
	at         time.Time
	generation uint64
	all        map[string]alerting.Place
}

func (c *placeCache) of(r *registry.Registry) map[string]alerting.Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := r.Generation(); c.all == nil || g != c.generation || time.Since(c.at) > placesAge {
		c.generation, c.all, c.at = g, registered(r), time.Now()
	}
	return c.all
}

// maintenance hands the pages the pager's book.
func (a *app) maintenance() *dashboards.Maintenance {
	return &dashboards.Maintenance{
		List: func(ctx context.Context) ([]alerting.Maintenance, error) { return a.pager.Maintenances().List(ctx) },
		Start: func(ctx context.Context, q alerting.MaintenanceRequest) (alerting.Maintenance, error) {
			return a.pager.Maintenances().Start(ctx, q)
		},
		End: func(ctx context.Context, number int64, who string) (alerting.Maintenance, error) {
			return a.pager.Maintenances().End(ctx, number, who)
		},
	}
}
