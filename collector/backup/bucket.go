package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// partSize is how much of a file is in memory while it is uploaded, in bytes: one part of an upload in parts, or
	// a smaller file as a whole. Amazon takes no part below 5 MiB, and 10,000 of them.
	partSize = 8 << 20
	maxParts = 10_000
	// bucketRetries is how often a request that failed is sent again, with growing pauses of up to a second.
	bucketRetries = 6
	// leaveAlone is the age from which on an unfinished upload is a killed process's.
	leaveAlone = time.Hour
	// cleanTime is how long an upload that failed may take to be removed.
	cleanTime = time.Minute
	// amazon is the endpoint where none is named.
	amazon = "https://s3.amazonaws.com"
)

// S3 says how the bucket of a target s3://BUCKET/PREFIX is reached. It never holds a key.
type S3 struct {
	Endpoint string `json:"endpoint,omitempty" yaml:"endpoint"` // URL; "" = Amazon's
	Region   string `json:"region,omitempty" yaml:"region"`     // "" = asked for, or us-east-1
	// Credentials is a file with access keys as Amazon's tools write it; "" = the environment's AWS_ACCESS_KEY_ID and
	// AWS_SECRET_ACCESS_KEY.
	Credentials string `json:"credentials,omitempty" yaml:"credentials" file:"secret"`
	// CA is a PEM file of authorities beside the machine's own, one of which signs the endpoint's certificate.
	CA string `json:"ca,omitempty" yaml:"ca" file:"secret"`
}

// Check validates the target and the options, as far as that is possible without a connection.
func (s S3) Check(target string) error {
	bucket, _, _ := strings.Cut(strings.TrimPrefix(target, bucketScheme), "/")
	if bucket == "" {
		return fmt.Errorf("target: %q names no bucket: write s3://BUCKET/PREFIX", target)
	}
	if s.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return fmt.Errorf("s3: endpoint: %q is not a URL such as https://s3.example.org:9000", s.Endpoint)
	}
	return nil
}

// bucket is a prefix in a bucket. Unfinished backups there have no manifest.
type bucket struct {
	client       *minio.Client
	name, prefix string
	endpoint     string
	keys         string // where they come from, for people
	local        string
}

func openBucket(target string, o S3, local string) (*bucket, error) {
	if err := o.Check(target); err != nil {
		return nil, err
	}
	name, prefix, _ := strings.Cut(strings.TrimPrefix(target, bucketScheme), "/")
	b := &bucket{name: name, prefix: strings.Trim(prefix, "/"), endpoint: o.Endpoint, local: local, keys: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"}
	if b.endpoint == "" {
		b.endpoint = amazon
	}
	u, err := url.Parse(b.endpoint)
	if err != nil {
		return nil, err
	}
	var keys credentials.Provider = &credentials.EnvAWS{}
	if o.Credentials != "" {
		keys, b.keys = &credentials.FileAWSCredentials{Filename: o.Credentials}, o.Credentials
	}
	given := credentials.New(keys)
	if v, err := given.GetWithContext(nil); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return nil, fmt.Errorf("open the backups' target %s: no access key in %s: %w: set both variables, or name a file of them with `s3: {credentials: FILE}`", target, b.keys, orNone(err))
	}
	transport, err := o.transport(u.Scheme == "https")
	if err != nil {
		return nil, fmt.Errorf("open the backups' target %s: %w", target, err)
	}
	b.client, err = minio.New(u.Host, &minio.Options{
		Creds: given, Secure: u.Scheme == "https", Transport: letGo{transport}, Region: o.Region, MaxRetries: bucketRetries,
	})
	if err != nil {
		return nil, fmt.Errorf("open the backups' target %s at %s: %w", target, b.endpoint, err)
	}
	return b, nil
}

// transport trusts the CA beside the machine's own.
func (s S3) transport(secure bool) (*http.Transport, error) {
	t, err := minio.DefaultTransport(secure)
	if err != nil || s.CA == "" || !secure {
		return t, err
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("read s3 ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read s3 ca %s: it holds no certificate: give a PEM file", s.CA)
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// letGo is a transport whose requests' bodies are not read any more once their answers are there. net/http goes on
// reading the body of a request that was refused early, while minio-go winds the same reader back for the next try.
type letGo struct{ http.RoundTripper }

func (t letGo) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return t.RoundTripper.RoundTrip(r)
	}
	body := &heldBody{ReadCloser: r.Body}
	defer body.release()
	r = r.Clone(r.Context())
	r.Body, r.GetBody = body, nil
	return t.RoundTripper.RoundTrip(r)
}

// heldBody ends when it is released: a body that is cut short this way breaks its connection. Safe for concurrent use.
type heldBody struct {
	io.ReadCloser
	mu       sync.Mutex
	released bool
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released {
		return 0, io.EOF
	}
	return b.ReadCloser.Read(p)
}

func (b *heldBody) release() {
	b.mu.Lock()
	b.released = true
	b.mu.Unlock()
}

func orNone(err error) error {
	if err == nil {
		return errors.New("none is set")
	}
	return err
}

func (b *bucket) scratch() string { return b.local }

// String is the target as the configuration has it.
func (b *bucket) String() string {
	return strings.TrimSuffix(bucketScheme+path.Join(b.name, b.prefix), "/")
}

func (b *bucket) key(name string) string { return path.Join(b.prefix, name) }

// explain adds the bucket and the next step to an error.
func (b *bucket) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	next := "is the endpoint right, and reachable from here?"
	var distrusted *tls.CertificateVerificationError
	switch r := minio.ToErrorResponse(err); {
	case errors.As(err, &distrusted):
		next = "is it the right endpoint? Name the CA that signed its certificate with `s3: {ca: FILE}`"
	case r.Code == minio.NoSuchKey || r.StatusCode == http.StatusNotFound && r.Code != minio.NoSuchBucket:
		return fmt.Errorf("%s in bucket %s at %s: %w", what, b.name, b.endpoint, fs.ErrNotExist)
	case r.Code == minio.NoSuchBucket:
		next = "make the bucket, or correct the target: Bramble makes none"
	case r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusUnauthorized:
		next = "are the keys of " + b.keys + " right, and may they list, read, write and delete there?"
	case r.StatusCode == http.StatusInsufficientStorage || r.Code == "QuotaExceeded":
		next = "free some space there, or keep fewer backups"
	case r.StatusCode/100 == 4:
		next = "see what the store's own log says"
	}
	return fmt.Errorf("%w: %s in bucket %s at %s: %w: %s", errUnreachable, what, b.name, b.endpoint, err, next)
}

func (b *bucket) list(ctx context.Context) (names []string, err error) {
	prefix := b.prefix
	if prefix != "" {
		prefix += "/"
	}
	for o := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, b.explain("list backups", o.Err)
		}
		if name, isFolder := strings.CutSuffix(strings.TrimPrefix(o.Key, prefix), "/"); isFolder && validName(name) {
			names = append(names, name)
		}
	}
	return names, ctx.Err()
}

// take asks whether the bucket answers. The bucket holds no lock: each collector has a prefix of its own, and a lock
// in its data directory keeps its processes apart.
func (b *bucket) take(ctx context.Context) (release func(), err error) {
	if _, err := b.list(ctx); err != nil {
		return nil, err
	}
	return lock(b.local)
}

// sweep leaves objects younger than an hour alone: another process may be writing them.
func (b *bucket) sweep(ctx context.Context) error {
	names, err := b.list(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !abandoned(name) {
			continue
		}
		_, err := b.client.StatObject(ctx, b.name, b.key(name+"/"+manifestName), minio.StatObjectOptions{})
		if errors.Is(b.explain("", err), fs.ErrNotExist) {
			if err := b.removeAll(ctx, name); err != nil {
				return err
			}
		} else if err != nil {
			return b.explain("look at backup "+name, err)
		}
	}
	return errors.Join(sweep(b.local), b.abort(ctx, ""))
}

func abandoned(name string) bool {
	at, err := time.Parse(nameLayout, name)
	return err == nil && time.Since(at) > leaveAlone
}

// abort ends the uploads in parts of one backup, "" those that killed processes have begun.
func (b *bucket) abort(ctx context.Context, name string) error {
	for u := range b.client.ListIncompleteUploads(ctx, b.name, b.key(name), true) {
		err := b.explain("list unfinished uploads", u.Err)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // some stores answer so where there are none
		}
		if err != nil {
			return err
		}
		if rest := strings.TrimPrefix(strings.TrimPrefix(u.Key, b.prefix), "/"); name == "" && !abandoned(strings.SplitN(rest, "/", 2)[0]) {
			continue
		}
		if err := b.client.RemoveIncompleteUpload(ctx, b.name, u.Key); err != nil {
			return b.explain("end the upload of "+u.Key, err)
		}
	}
	return nil
}

func (b *bucket) remove(ctx context.Context, name string) error {
	if err := b.client.RemoveObject(ctx, b.name, b.key(name+"/"+manifestName), minio.RemoveObjectOptions{}); err != nil {
		return b.explain("remove backup "+name, err)
	}
	return b.removeAll(ctx, name)
}

func (b *bucket) removeAll(ctx context.Context, name string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing where removing fails
	objects := b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.key(name) + "/", Recursive: true})
	for o := range objects {
		if o.Err != nil {
			return b.explain("list backup "+name, o.Err)
		}
		if err := b.client.RemoveObject(ctx, b.name, o.Key, minio.RemoveObjectOptions{}); err != nil {
			return b.explain("remove "+o.Key, err)
		}
	}
	return b.abort(ctx, name)
}

func (b *bucket) at(name string) shelf { return bucketShelf{b, name} }

// bucketShelf is one backup in a bucket.
type bucketShelf struct {
	b    *bucket
	name string
}

func (s bucketShelf) String() string { return s.b.String() + "/" + s.name }

func (s bucketShelf) open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := s.b.client.GetObject(ctx, s.b.name, s.b.key(s.name+"/"+name), minio.GetObjectOptions{})
	if err != nil {
		return nil, s.b.explain("read "+s.name+"/"+name, err)
	}
	return bucketFile{o, s, name}, nil
}

func (s bucketShelf) write(ctx context.Context, name string, data []byte) error {
	return s.b.put(ctx, s.name+"/"+name, bytes.NewReader(data), int64(len(data)))
}

// bucketFile explains the errors of an object.
type bucketFile struct {
	*minio.Object
	shelf bucketShelf
	name  string
}

func (f bucketFile) Read(p []byte) (int, error) {
	n, err := f.Object.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = f.shelf.b.explain("read "+f.shelf.name+"/"+f.name, err)
	}
	return n, err
}

// put uploads a reader's content. Content that fits one part is read into memory, so that a request can be sent
// again.
func (b *bucket) put(ctx context.Context, name string, from io.Reader, size int64) error {
	if size <= partSize {
		whole, err := io.ReadAll(from)
		if err != nil {
			return err
		}
		from = bytes.NewReader(whole)
	} else {
		from = struct{ io.Reader }{from} // a file would be read in many places at once
	}
	_, err := b.client.PutObject(ctx, b.name, b.key(name), from, size, minio.PutObjectOptions{
		PartSize: uint64(max(partSize, size/maxParts+1)), NumThreads: 1, SendContentMd5: true, ContentType: "application/octet-stream",
	})
	return b.explain("write "+name, err)
}

func (b *bucket) begin(_ context.Context, name string) (draft, error) {
	d := bucketDraft{b, name, filepath.Join(b.local, "."+name+partial)}
	return d, explain(os.Mkdir(d.staged, 0o700))
}

// bucketDraft uploads the series at once, and the rest from a local folder in the end.
type bucketDraft struct {
	b            *bucket
	name, staged string
}

func (d bucketDraft) dir() string { return d.staged }

func (d bucketDraft) series(ctx context.Context, c *copier, from, name string) (FileSum, error) {
	f, err := os.Open(from)
	if err != nil {
		return FileSum{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return FileSum{}, err
	}
	m := &measured{ctx: ctx, copier: c, from: f, hash: sha256.New()}
	if err := d.b.put(ctx, d.name+"/"+name, m, info.Size()); err != nil {
		return FileSum{}, err
	}
	return FileSum{Size: m.size, SHA256: hex.EncodeToString(m.hash.Sum(nil))}, nil
}

// publish uploads the small files, and the manifest when all else is there.
func (d bucketDraft) publish(ctx context.Context, m *Manifest) error {
	for _, f := range m.Files {
		if inSeries(f.Path) {
			continue
		}
		if err := d.upload(ctx, f.Path); err != nil {
			return err
		}
	}
	if err := m.write(ctx, d.b.at(d.name)); err != nil {
		return err
	}
	return os.RemoveAll(d.staged)
}

func (d bucketDraft) upload(ctx context.Context, name string) error {
	f, err := os.Open(filepath.Join(d.staged, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return d.b.put(ctx, d.name+"/"+name, f, info.Size())
}

// discard also works when the context of the backup is over.
func (d bucketDraft) discard() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	return errors.Join(d.b.removeAll(ctx, d.name), os.RemoveAll(d.staged))
}
