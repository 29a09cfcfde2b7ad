package broker

import (
	"sync"
	"time"
)

// bucket is a token bucket. It is safe for concurrent use.
type bucket struct {
	rate  float64 // tokens a second
	burst float64 // largest number of tokens

	mu     sync.Mutex
	tokens float64
	filled time.Time
}

func newBucket(rate, burst float64) *bucket {
	return &bucket{rate: rate, burst: burst, tokens: burst, filled: time.Now()}
}

// allow takes one token and reports whether there was one.
func (b *bucket) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// take takes n tokens, lent where there are fewer, and returns how long to wait
// until they are paid back.
func (b *bucket) take(n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	b.tokens -= float64(n)
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

// fill adds the tokens that have become due. The caller holds b.mu.
func (b *bucket) fill() {
	now := time.Now()
	b.tokens = min(b.burst, b.tokens+now.Sub(b.filled).Seconds()*b.rate)
	b.filled = now
}
