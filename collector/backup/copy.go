package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"bramble/storage/durable"
)

// chunk is how much is read and written at a time, in bytes.
const chunk = 256 << 10

// copier moves bytes no faster than its rate. It is not safe for concurrent use.
type copier struct {
	limit *rate.Limiter // nil: no limit
	buf   []byte
}

// newCopier returns a copier for bytesPerSecond; 0 means no limit.
func newCopier(bytesPerSecond int64) *copier {
	c := &copier{buf: make([]byte, chunk)}
	if bytesPerSecond > 0 {
		c.limit = rate.NewLimiter(rate.Limit(bytesPerSecond), chunk)
	}
	return c
}

// copyFile copies a file to a new one, which is on disk when it returns, and returns the copy's size and checksum.
// It makes missing directories.
func (c *copier) copyFile(ctx context.Context, from, to string) (FileSum, error) {
	in, err := os.Open(from)
	if err != nil {
		return FileSum{}, err
	}
	defer in.Close()
	return c.writeTo(ctx, in, to)
}

// writeTo is copyFile from a reader.
func (c *copier) writeTo(ctx context.Context, in io.Reader, to string) (FileSum, error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return FileSum{}, err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return FileSum{}, err
	}
	sum, err := c.stream(ctx, in, out)
	if err == nil {
		err = settleFile(out)
	}
	return sum, explain(errors.Join(err, out.Close()))
}

// measured is a reader that goes no faster than a copier's rate, and counts and hashes the bytes.
type measured struct {
	ctx    context.Context
	copier *copier
	from   io.Reader
	hash   hash.Hash
	size   int64
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.from.Read(p[:min(len(p), chunk)])
	if n > 0 {
		if err := m.copier.put(m.ctx, p[:n], m.hash, nil); err != nil {
			return 0, err
		}
		m.size += int64(n)
	}
	return n, err
}

// settleFile brings a written file to disk and takes it out of the page cache, where the store's files belong.
func settleFile(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // it only advises
	return nil
}

// stream copies until the end; out may be nil.
func (c *copier) stream(ctx context.Context, in io.Reader, out io.Writer) (FileSum, error) {
	sum, h := FileSum{}, sha256.New()
	for {
		n, err := in.Read(c.buf)
		if n > 0 {
			if err := c.put(ctx, c.buf[:n], h, out); err != nil {
				return sum, err
			}
			sum.Size += int64(n)
		}
		if errors.Is(err, io.EOF) {
			sum.SHA256 = hex.EncodeToString(h.Sum(nil))
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

func (c *copier) put(ctx context.Context, b []byte, h hash.Hash, out io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.limit != nil {
		if err := c.limit.WaitN(ctx, len(b)); err != nil {
			return err
		}
	}
	h.Write(b)
	if out == nil {
		return nil
	}
	_, err := out.Write(b)
	return err
}

// sumFile hashes a file.
func (c *copier) sumFile(ctx context.Context, path string) (FileSum, error) {
	in, err := os.Open(path)
	if err != nil {
		return FileSum{}, err
	}
	defer in.Close()
	return c.stream(ctx, in, nil)
}

// explain adds the next step to the error of a full disk, and of one that the service may not write to.
func explain(err error) error {
	var at *fs.PathError
	if errors.Is(err, syscall.EROFS) && errors.As(err, &at) {
		return fmt.Errorf("%w: a service of systemd's writes only where its unit says: add ReadWritePaths=-%s under [Service] with `systemctl edit bramble-collector`, or mount it for writing",
			err, filepath.Dir(at.Path))
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: free some space there, keep fewer backups, or choose another target", err)
	}
	return err
}

// syncTree brings the directory entries below dir to disk.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return durable.SyncDir(path)
	})
}
