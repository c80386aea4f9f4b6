package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// An engine may say what it likes: it is read piece by piece, and no further than
// this.
const (
	maxAnswer = 64 << 20
	maxItem   = 4 << 20   // a pod or a container; etcd holds 1.5 MiB of a pod
	maxItems  = maxWalked // there cannot be more containers than cgroups
)

// get makes a request and has the body of a good answer read.
func get(ctx context.Context, client *http.Client, url, token string, read func(*jsonStream) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("got status %s, want 200", resp.Status)
	}
	return read(newJSONStream(resp.Body))
}

// jsonStream reads JSON of which never more than a piece is in memory.
type jsonStream struct {
	*json.Decoder
	from *io.LimitedReader // how much may come for the piece at hand
}

func newJSONStream(r io.Reader) *jsonStream {
	from := &io.LimitedReader{R: r, N: maxItem}
	return &jsonStream{json.NewDecoder(from), from}
}

// next reads a piece, into a pointer.
func (s *jsonStream) next(into any) error {
	left := maxAnswer - s.InputOffset()
	if left <= 0 {
		return fmt.Errorf("got more than %d bytes", maxAnswer)
	}
	s.from.N = maxItem
	err := s.Decode(into)
	if err != nil && s.from.N == 0 {
		return fmt.Errorf("got a piece of more than %d bytes: %w", maxItem, err)
	}
	return err
}

// more says whether the list or object at hand has more.
func (s *jsonStream) more() bool {
	s.from.N = maxItem
	return s.More()
}

// each reads a list by its elements. There may be null in its place.
func each[T any](s *jsonStream, do func(*T)) error {
	s.from.N = maxItem
	switch t, err := s.Token(); {
	case err != nil:
		return err
	case t == nil:
		return nil
	case t != json.Delim('['):
		return fmt.Errorf("got %v, want a list", t)
	}
	for n := 0; s.more(); n++ {
		if n == maxItems {
			return fmt.Errorf("got more than %d elements", maxItems)
		}
		var item T
		if err := s.next(&item); err != nil {
			return err
		}
		do(&item)
	}
	_, err := s.Token()
	return err
}

// members reads an object by its members: value reads the one whose key it is
// called with, or says that it does not want it.
func (s *jsonStream) members(value func(key string) (wanted bool, err error)) error {
	if t, err := s.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(err, fmt.Errorf("got %v, want an object", t))
	}
	for s.more() {
		key, err := s.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		wanted, err := value(name)
		if err == nil && !wanted {
			var other json.RawMessage
			err = s.next(&other)
		}
		if err != nil {
			return err
		}
	}
	_, err := s.Token()
	return err
}
