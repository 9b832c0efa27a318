from tests.contract import test_resources
from tests.contract.test_resources import *  # noqa: F403
from tests.support.databases import needs_postgres

pytestmark = [test_resources.pytestmark, needs_postgres]
del test_the_bill_agrees_with_the_tokens  # noqa: F821  # of a server with prices; the unit tests have it on Postgres
