package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
)

func TestAskDecodesEveryResultType(t *testing.T) {
	two := []Series{
		{Labels: map[string]string{"a": `x,"values":[`, "b": "]"}, Points: []Point{{1000, 1}, {1250, 2.5}}},
		{Labels: map[string]string{}, Points: []Point{{-1500, 3e-9}}},
	}
	for _, c := range []struct {
		name, body string
		want       []Series
	}{
		{"matrix", `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"x,\"values\":[","b":"]"},"values":[[1,"1"],[1.25,"2.5"]]},{"metric":{},"values":[[-1.5,"3e-09"]]}]}}`, two},
		{"matrix with white space", `{"status":"success", "data":{"resultType":"matrix", "result":[{"metric":{"a":"x,\"values\":[","b":"]"}, "values":[[1, "1"],[1.250,"2.5"]]},{"metric":{},"values":[[-1.5,"3e-09"]]}]}}`, two},
		{"empty matrix", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, nil},
		{"vector", `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1.001,"7"]}]}}`, []Series{{Labels: map[string]string{"a": "b"}, Points: []Point{{1001, 7}}}}},
		{"scalar", `{"status":"success","data":{"resultType":"scalar","result":[2,"3"]}}`, []Series{{Points: []Point{{2000, 3}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if _, err := w.Write([]byte(c.body)); err != nil {
					t.Error(err)
				}
			}))
			defer srv.Close()
			got, err := Instant(t.Context(), srv.Client(), srv.URL, "up", 0)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 && len(c.want) == 0 {
				return
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestAskReportsRefusals(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
	}))
	defer srv.Close()
	_, err := Instant(t.Context(), srv.Client(), srv.URL, "up", 0)
	var refused *StatusError
	if !errors.As(err, &refused) || refused.Status != http.StatusUnprocessableEntity || refused.Temporary() {
		t.Fatalf("got %v, want a lasting refusal with status 422", err)
	}
}

func FuzzDecodeMatrix(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1,"1"],[1.25,"2.5"]]}]}}`))
	f.Add([]byte(`"resultType":"matrix","result":[{"metric":{},"values":[[,""]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if series, err := decodeMatrix(b); err != nil && series != nil {
			t.Fatalf("got %d series beside the error %v", len(series), err)
		}
	})
}
