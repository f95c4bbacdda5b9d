"""Records of pulls, and the references by which they are found."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "pull_records",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "pull_references",
        sa.Column("record_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("reference", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(
            ["record_id"],
            ["pull_records.id"],
        ),
        sa.PrimaryKeyConstraint("record_id", "reference"),
    )
    with op.batch_alter_table("pull_references", schema=None) as batch_op:
        batch_op.create_index("ix_pull_references_reference", ["reference"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("pull_references", schema=None) as batch_op:
        batch_op.drop_index("ix_pull_references_reference")

    op.drop_table("pull_references")
    op.drop_table("pull_records")
