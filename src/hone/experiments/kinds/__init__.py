"""The eight things that an experiment file names by `kind`. `contract` says what each promises, `plugins` finds them.

| kind      | what it does                                   | built in                |
| --------- | ---------------------------------------------- | ----------------------- |
| source    | reads raw rows                                 | `sources/`              |
| transform | changes, drops or adds raw rows                | `transforms/`           |
| algorithm | trains an adapter on standard rows             | `algorithms/`           |
| backend   | opens a service that speaks the protocol       | `backends/`             |
| verifier  | grades an answer                               | `verifiers/`            |
| metric    | makes one number of the grades of many tasks   | `metrics/`              |
| store     | receives results beside the run directory      | `stores/`               |
| inference | answers prompts, by a model that is not trained| `inference/`            |
"""
