"""One example for each section, for the reference page and for editors."""

from __future__ import annotations

from typing import Any

from sandboxfile.reading.source import read_source

SNIPPETS = {
    "version": """\
version: "1"
""",
    "name": """\
name: shop
""",
    "agent": """\
agent:
  use: claude-code
  version: "2.1.330"
  args: [--model, sonnet]
  env: {NODE_ENV: test}
""",
    "agents": """\
agents:
  frontend:
    use: claude-code
    mounts: [./web:/workspace]
    endpoints: [npm]
  backend:
    command: [./agent.sh]
    mounts: [./api:/workspace]
    machine: {memory: 4GiB}
""",
    "machine": """\
machine: {cpus: 2, memory: 4GiB, disk: 20GiB, idle: 8h, network_rate: 20MiB/s, cpu_weight: 50}
""",
    "packages": """\
packages: [ripgrep, postgresql-client]
""",
    "setup": """\
setup:
  - npm ci
  - run: uv sync
    inputs: [pyproject.toml, uv.lock]
    env: {UV_LINK_MODE: copy}
  - {run: "echo hello > /etc/motd", user: root}
""",
    "mounts": """\
mounts:
  - .:/workspace
  - ../docs:/docs:ro
  - {source: ./app, target: /app, hide: [.env, "*.pem"], local: [node_modules]}
""",
    "endpoints": """\
endpoints:
  - npm
  - api.example.com
  - registry.example.com:8443
  - {host: "*.cdn.example.com", methods: [GET]}
  - {host: private.cdn.example.com, deny: true}
  - {github: acme/shop, access: [read, issues], push: [agent/*], secret: github}
  - {group: pypi, access: read}
  - {host: api.example.org, paths: ["/v1/**"], secret: example}
  - {host: db.example.com, port: 5432, protocol: tcp}
  - {host: localhost, port: 11434, as: ollama}
secrets:
  github: {env: GH_TOKEN}
  example: {env: EXAMPLE_KEY}
""",
    "secrets": """\
secrets:
  github: {env: GH_TOKEN}
  deploy: {file: ~/.config/deploy/token}
  registry: {}
""",
    "services": """\
services:
  db:
    image: postgres:17
    environment: {POSTGRES_PASSWORD: dev}
    volumes: [data:/var/lib/postgresql/data]
    healthcheck: {test: pg_isready -U postgres, interval: 2s}
  web:
    build: ./web
    depends_on: {db: {condition: service_healthy}}
    ports: ["8080:80"]
volumes:
  data: {}
""",
    "volumes": """\
volumes:
  data: {}
""",
    "networks": """\
networks:
  back: {internal: true}
""",
    "profiles": """\
profiles: [debug]
""",
    "configs": """\
configs:
  nginx: {file: ./nginx.conf}
""",
    "ports": """\
ports: ["3000:3000", 8000]
""",
}
"""With `version` before it, each text is a valid file. It has other sections, too, if the example needs them."""


def example(section: str) -> Any:
    """The value of the section in its example, as plain data."""
    return read_source(SNIPPETS[section], section).data[section]
