"""What an expert knows of Istio, as pure functions from a snapshot to judgements. No I/O here, ever."""
