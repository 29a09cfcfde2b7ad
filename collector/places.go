package main

import (
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/collector/registry"
)

// placesOf is where the registry's boards stand, each of them expected to report.
func placesOf(r *registry.Registry) map[string]alert.Place {
	now := time.Now().UnixMilli()
	all := map[string]alert.Place{}
	for _, b := range r.Boards() {
		if !b.Retired {
			all[b.Name] = alert.Place{Labels: registry.Map(b.At(now)), Watched: true}
		}
	}
	return all
}

// placesAge is how old the list of places may be that silences and maintenances are counted by: labels may begin to hold
// without a change of the registry.
const placesAge = 2 * time.Second

// placeCache keeps placesOf from being asked for every silence of every browser. The zero value is empty. The maps that
// it returns are shared: nobody changes them.
type placeCache struct {
	mu         sync.Mutex
	at         time.Time
	generation uint64
	all        map[string]alert.Place
}

func (c *placeCache) of(r *registry.Registry) map[string]alert.Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := r.Generation(); c.all == nil || g != c.generation || time.Since(c.at) > placesAge {
		c.generation, c.all, c.at = g, placesOf(r), time.Now()
	}
	return c.all
}
