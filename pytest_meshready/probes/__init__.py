"""Probe pods: guests in the cluster that send what the live checks need and say what came back.

`messages` is the contract with `agent`, the one standard-library file that runs inside a pod; `pod` writes the manifests,
`session` talks to the agent, `certificates` reads what a peer showed.
"""
