from tests.contract.test_ordering import *  # noqa: F403
from tests.support.databases import needs_postgres

pytestmark = needs_postgres
