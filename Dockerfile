# docs/operations.md says how to run it.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
RUN python3 -m venv /opt/todo-api
WORKDIR /source
COPY requirements.lock .
RUN /opt/todo-api/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /opt/todo-api/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 65520 --user-group --no-create-home todo-api
COPY --from=build /opt/todo-api /opt/todo-api
ENV PATH=/opt/todo-api/bin:$PATH HOST=0.0.0.0
USER 65520:65520
EXPOSE 8000
ENTRYPOINT ["todo-api"]
CMD ["serve"]
